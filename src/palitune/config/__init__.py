"""The Hydra boundary: YAML files and overrides in, one typed dataclass per run out.

`adapter=qlora` composes a node of type `Qlora`, so a recipe uses its run without further parsing.
No dotted Python path is read from a configuration.
"""
