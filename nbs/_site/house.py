"Where things are, and what they are called."
from configparser import ConfigParser
from pathlib import Path

root = Path(__file__).parents[2]
_config = ConfigParser(delimiters=['='])
_config.read(root/'settings.ini', encoding='utf-8')
CFG = _config['DEFAULT']
package = root/CFG['lib_path']

PARTS = {'0_start': ('Start', 'A first look, and the words.'),
         '1_neurons': ('Neurons', 'One neuron, layers over time, and what nets are made of.'),
         '2_losses': ('Losses', 'What TKS and EnOF-SNN add to cross-entropy, and what came after.'),
         '3_nets': ("The papers' nets", 'At full size.'),
         '4_data': ('Data', 'Images and events, chance as a function, augmentation.'),
         '5_experiments': ('Experiments', "The papers' rows, and the sizes at which they are run."),
         '6_training': ('Training', 'From one epoch to a run that can be killed, and to clusters.'),
         '7_analysis': ('Analysis', 'From records to tables, figures and verdicts.'),
         '8_results': ('Results', 'When do these methods help? Each table and figure.'),
         '9_speed': ('Speed', 'The compiled neuron, spikes as bits, races.')}


def toctree(entries) -> str:
    "A table of contents that only the side bar shows."
    return '\n'.join([':::{toctree}', ':hidden:', '', *entries, ':::', ''])


def write(path: Path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
