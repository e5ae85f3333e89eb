"""The libraries' own bars and warnings, which would run into ours; and packages beside them, which could break them."""

from __future__ import annotations

import logging
import os
import sys
import warnings

UNUSED = ("torchao", "torchaudio", "torchcodec", "torchvision")
"""What transformers, peft, trl and datasets import where it is installed, though no text model needs it."""


def hide_unused_packages() -> None:
    """Let the libraries take packages that are not used here for missing.

    Colab and Kaggle ship a torchao that peft refuses, and where torch was replaced the torchvision of the old one fails
    on import, and with it transformers, peft and trl. To be called before any of them is imported.
    """
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as the import system defines it


def quiet_libraries() -> None:
    """To be called before the libraries are imported: that is when they read most of this.

    Nothing is imported here, for a model behind an address needs none of them.
    """
    os.environ |= {
        "TQDM_DISABLE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it asks for a package that helps inference only
    # trl's 1.16 and peft's 0.21 to mend, on transformers 5.23
    warnings.filterwarnings("ignore", ".*gradient_checkpointing. is deprecated", FutureWarning)
