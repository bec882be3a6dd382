"""One molecule may be written in many ways."""

import sys

import pytest

from palitune.errors import MetricError
from palitune.metrics import METRICS
from palitune.metrics.text.smiles import same_molecule


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("C1=CC=CC=C1O", "Oc1ccccc1", 1),
        (" OC1=CC=CC=C1 ", "Oc1ccccc1", 1),
        ("CCO", "COC", 0),
        ("C[C@H](N)C(=O)O", "C[C@@H](C(=O)O)N", 1),
        ("C[C@@H](N)C(=O)O", "C[C@@H](C(=O)O)N", 0),
        ("F/C=C/F", "F/C=C\\F", 0),
        ("C1CC", "C1CC1", 0),
        ("", "C", 0),
        ("no molecule", "C", 0),
        ("[R1]CC", "[R1]CC", 1),
    ],
)
def test_molecules_are_compared_and_not_their_spelling(
    answer: str, reference: str, score: float
) -> None:
    assert same_molecule(answer, (reference,)) == score
    assert same_molecule(answer, ("CCCCCC", reference)) == score


def test_without_rdkit_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(MetricError, match=r"pip install 'palitune\[molecules\]'"):
        METRICS["same_molecule"]()
