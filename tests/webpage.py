"""A strict reader of HTML pages, for tests."""

import html.parser

VOID = {'meta', 'img', 'source', 'br'}


class Page(html.parser.HTMLParser):
    """Table rows, attribute values and text of a page; a tag that does not match is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.tables, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f'left open: {self.open}'

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
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
        self.words.append(data)
        if self.open and {'td', 'th'} & set(self.open):
            self.row[-1][1].append(data)
