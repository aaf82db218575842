"Formulas as MathML, made when the site is built: browsers draw it without a script."
import re
from string import ascii_uppercase

from docutils import nodes
from latex2mathml.converter import convert

# What the converter does not know: \arg, and large delimiters that are commands.
LARGE = re.compile(r'(\\[bB]igg?[lrm]?)\s*(\\\||\\[lr](?:floor|ceil))')
SIGNS = {r'\|': '‖', r'\lfloor': '⌊', r'\rfloor': '⌋', r'\lceil': '⌈', r'\rceil': '⌉'}

# Browsers draw a script letter that is one, not a plain one with an attribute.
SCRIPT = ({c: chr(0x1D49C + i) for i, c in enumerate(ascii_uppercase)}
          | dict(zip('BEFHILMR', 'ℬℰℱℋℐℒℳℛ')))


def mathml(formula: str, display: str) -> str:
    "A formula in TeX as a `<math>` element, `display` 'inline' or 'block'."
    known = LARGE.sub(lambda m: m[1] + SIGNS[m[2]], formula)
    made = convert(known.replace(r'\arg', r'\operatorname{arg}'), display=display)
    return re.sub('<mi mathvariant="script">([A-Z])', lambda m: f'<mi>{SCRIPT[m[1]]}', made)


def inline(self, node):
    self.body.append(mathml(node.astext(), 'inline'))
    raise nodes.SkipNode


def block(self, node):
    self.body.append(f"{self.starttag(node, 'div', CLASS='math')}"
                     f"{mathml(node.astext(), 'block')}</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer('mathml', (inline, None), (block, None))
    app.config.html_math_renderer = 'mathml'
