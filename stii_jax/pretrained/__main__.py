"""Prints the cards of the models that come with the package, or of those named."""

import sys

from stii_jax.pretrained.cards import card
from stii_jax.pretrained.files import ModelFileError, names

try:
    print("\n\n".join(card(name) for name in sys.argv[1:] or names()))
except ModelFileError as error:
    sys.exit(f"error: {error}")
