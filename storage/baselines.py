"""The two baselines that stand beside every proxy ranking, so that a score means something."""

from storage.catalog import DATASET_MODALITIES
from storage.evaluations import Subject

# The data itself as features, with no model: see tasks.sources.raw.
RAW = "raw"


def raw_subject(modality: str) -> Subject:
    """The `raw` baseline for rows of a modality; raise its number when its features change."""
    return Subject(RAW, f"raw-{modality}-1")


# The most frequent training class as the answer to every row: see tasks.classification.
MAJORITY = Subject("majority", "majority-class-1")
MAJORITY_METHOD = "majority"
MAJORITY_VERSION = "1"

# The content of both, for every modality.
BASELINES = (MAJORITY.fingerprint, *(raw_subject(modality).fingerprint for modality in DATASET_MODALITIES))
