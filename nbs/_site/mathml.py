"Formulas as MathML, made when the site is built: browsers draw it without a script."
import re

from docutils import nodes
from latex2mathml.converter import convert

# What the converter does not know: \arg, and large delimiters that are commands.
LARGE = re.compile(r'(\\[bB]igg?[lrm]?)\s*(\\\||\\[lr](?:floor|ceil))')
SIGNS = {r'\|': '‖', r'\lfloor': '⌊', r'\rfloor': '⌋', r'\lceil': '⌈', r'\rceil': '⌉'}


def mathml(formula: str, display: str) -> str:
    "A formula in TeX as a `<math>` element, `display` 'inline' or 'block'."
    known = LARGE.sub(lambda m: m[1] + SIGNS[m[2]], formula)
    return convert(known.replace(r'\arg', r'\operatorname{arg}'), display=display)


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
