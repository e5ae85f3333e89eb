"""The libraries' own bars and warnings, which would run into ours."""

from __future__ import annotations

import logging
import os
import warnings


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
