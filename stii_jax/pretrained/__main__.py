"""Print the cards of the models that come with the package, or of the given ones."""

import argparse
import sys

from stii_jax.errors import UserError, check_platform
from stii_jax.pretrained.files import names

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stii_jax.pretrained", description="Print the cards of models.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a name, or a .safetensors file (default: all)")
    options = parser.parse_args()
    try:
        check_platform()
        from stii_jax.pretrained.cards import model_card

        print("\n\n".join(model_card(name) for name in options.models or names()))
    except UserError as error:
        sys.exit(f"error: {error}")
