"""Same molecule: share of SMILES strings that denote the reference's molecule, in any spelling.

RDKit (an optional extra: `pip install 'palitune[molecules]'`) writes both in canonical form, with
stereochemistry. An answer that is no molecule is wrong; a reference that RDKit cannot parse, e.g.
one with abbreviated groups, is compared as text.
"""

from functools import lru_cache

from palitune.errors import MetricError
from palitune.metrics.base import MeanMetric, check_references


def same_molecule(answer: str, references: tuple[str, ...]) -> float:
    """Return 1.0 if `answer` denotes the molecule of any reference, else 0.0."""
    check_references(references)
    return float(canonical_smiles(answer) in map(canonical_smiles, references))


@lru_cache(maxsize=1 << 16)
def canonical_smiles(smiles: str) -> str:
    """Return RDKit's canonical form of a molecule; any other text stays as it is."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles.strip()) if smiles.strip() else None
    return smiles.strip() if molecule is None else str(Chem.MolToSmiles(molecule))


class SameMolecule(MeanMetric):
    def __init__(self) -> None:
        super().__init__("same_molecule")
        try:
            import rdkit  # noqa: F401
        except ImportError:
            raise MetricError(
                "metric same_molecule requires RDKit, which is not installed. "
                "Run pip install 'palitune[molecules]'."
            ) from None

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        return same_molecule(answer, references)
