"""A strict reader of HTML pages, for tests."""

import html.parser

VOID = {'meta', 'img', 'source', 'br', 'input'}


class Page(html.parser.HTMLParser):
    """Table rows, attribute values and text of a page; a tag that does not match is an error.

    scripts: [(attributes, text)], which is no text of the page.
    """

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.tables, self.words = [], [], [], []
        self.scripts = []
        self.feed(text)
        self.close()
        assert not self.open, f'left open: {self.open}'

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == 'script':
            self.scripts.append((dict(attrs), []))
        if tag == 'table':
            self.tables.append({})
        if tag == 'tr':
            self.row = []
            self.tables[-1][dict(attrs).get('data-arm')] = self.row
        if tag in ('td', 'th'):
            self.row.append((dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f'</{tag}> closes nothing'

    def handle_data(self, data):
        if self.open and self.open[-1] in ('script', 'style'):
            if self.open[-1] == 'script':
                self.scripts[-1][1].append(data)
            return
        self.words.append(data)
        if self.open and {'td', 'th'} & set(self.open):
            self.row[-1][1].append(data)
