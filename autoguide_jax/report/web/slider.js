// Grids of samples: the same seed at the same place, whatever the slider says.

const png = (base64) => `data:image/png;base64,${base64}`;

/** A grid with the heads of its columns; show(base64 or null, words) changes what it has. */
function grid(heads) {
  const image = make('img', { class: 'strip', alt: '' });
  const words = make('p', { class: 'who' });
  const columns = `grid-template-columns:repeat(${heads.length},1fr)`;
  const named = heads.some(Boolean);
  const names = heads.map((head) => make('span', {}, head));
  const top = named ? make('div', { class: 'heads', style: columns }, ...names) : null;
  const node = make('div', { class: 'grid' }, words, top, image);
  const show = (base64, text) => {
    words.textContent = base64 ? text : `${text}: no images`;
    image.hidden = !base64;
    image.alt = `Samples: ${text}`;
    if (base64) image.src = png(base64);
  };
  return { node, show };
}
