# Class names and templates in open_clip's layout.
from typing import Callable

OPENAI_IMAGENET_TEMPLATES = (
    lambda c: f'a bad photo of a {c}.',
    lambda c: f"the {c}'s {{x}}.",
    lambda name: 'a {}'.format(name),
)

IMAGENET_CLASSNAMES: list = [
    "tench", 'gold' 'fish', r'a\b', """great
white""", '\x41\u00e9\'',
]

SETS = {"cifar10": ["x"], 'n': {'y': [1]}, "food101": ("a", "b")}


def f(x):
    return [y for y in x if y == ']']
