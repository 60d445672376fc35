"""The objectives known by name: what each is, where it is, what it takes, what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nearfar.other_packages import with_others
from nearfar.selectable import settings as s
from nearfar.selectable.offers import NEEDED, SHOWN, Need

# A package names its entry, or a mapping of several, under this group in its pyproject.toml.
GROUP = "nearfar.objectives"
# What a module may want to know of the data at construction.
Size: TypeAlias = Literal["dim", "num_classes", "num_rows"]
# In time, of N rows with d features; memory is that of a tile of pairs at most, whatever the class.
Cost: TypeAlias = Literal["N d", "N d^2", "N^2 d", "K N^2 d", "N^3 d"]


@dataclass(frozen=True)
class ObjectiveEntry:
    """An objective and where its parts are.

    Attributes:
        name: The word in a config.
        summary: One line for ``nearfar objectives``.
        source: Paper.
        loss: The module class, as ``module:attribute``.
        settings: Its parameters.
        takes: Fields of a ``ViewBatch``, in the order of the arguments of its ``forward``.
        sizes: What its constructor wants to know of the data.
        cost: Growth of its time.

    Raises:
        ValueError: If the parts do not fit together.
    """

    name: str
    summary: str
    source: str
    loss: str
    settings: type[s.ObjectiveSettings]
    takes: tuple[str, ...] = ("first", "second")
    sizes: tuple[Size, ...] = ()
    cost: Cost = "N^2 d"

    def __post_init__(self) -> None:
        """Whoever brings one learns here what is wrong with it, not in the middle of a run."""
        module, colon, attribute = self.loss.partition(":")
        if not (module and colon and attribute):
            raise ValueError(f"{self.name}: loss: module:attribute expected, got {self.loss!r}")
        default = self.settings.model_fields["name"].default
        if default != self.name:
            raise ValueError(f"{self.name}: settings: its name is {default!r}; give both the same")
        unknown = [field for field in self.takes if field not in SHOWN]
        if unknown:
            raise ValueError(f"{self.name}: takes: there is no {unknown[0]!r}; there are {', '.join(SHOWN)}")
        if ("target" in self.needs) != issubclass(self.settings, s.SlowCopySettings):
            raise ValueError(
                f"{self.name}: settings: SlowCopySettings belong to what takes target_first or target_second; have "
                "both, or neither"
            )

    @property
    def needs(self) -> frozenset[Need]:
        """What a domain must give it beside two views."""
        return frozenset(NEEDED[name] for name in self.takes if name in NEEDED)

    @property
    def parameters(self) -> dict[str, object]:
        """Names and defaults."""
        return {name: f.default for name, f in self.settings.model_fields.items() if name != "name"}


def known_objectives() -> dict[str, ObjectiveEntry]:
    """All objectives by name: :data:`OBJECTIVES`, then those of other packages.

    Raises:
        ConfigError: If another package takes a name that is taken.
    """
    return with_others(OBJECTIVES, GROUP, ObjectiveEntry, "objective")


def _by_name(entries: Sequence[ObjectiveEntry]) -> dict[str, ObjectiveEntry]:
    return {entry.name: entry for entry in entries}


_VIEWS = ("first", "second")
_SLOW = (*_VIEWS, "target_first", "target_second")
_DIM: tuple[Size, ...] = ("dim",)
_IN = "nearfar.objectives"

OBJECTIVES = _by_name(
    [
        # Two views.
        ObjectiveEntry(
            "infonce",
            "pick the other view among those of all rows",
            "van den Oord et al., 2018; Radford et al., ICML 2021",
            f"{_IN}.infonce:InfoNCE",
            s.InfoNCESettings,
        ),
        ObjectiveEntry(
            "ntxent",
            "pick the other view among all views of all rows",
            "Chen et al., ICML 2020",
            f"{_IN}.ntxent:NTXent",
            s.NTXentSettings,
        ),
        ObjectiveEntry(
            "dcl",
            "NT-Xent without the positive in its denominator",
            "Yeh et al., ECCV 2022",
            f"{_IN}.dcl:DCL",
            s.DCLSettings,
        ),
        ObjectiveEntry(
            "dclw",
            "DCL that pulls harder on positives far apart",
            "Yeh et al., ECCV 2022",
            f"{_IN}.dclw:DCLW",
            s.DCLWSettings,
        ),
        ObjectiveEntry(
            "siglip",
            "every pair a yes-or-no question",
            "Zhai et al., ICCV 2023",
            f"{_IN}.siglip:SigLIP",
            s.SigLIPSettings,
        ),
        ObjectiveEntry(
            "debiased",
            "InfoNCE corrected for false negatives",
            "Chuang et al., NeurIPS 2020",
            f"{_IN}.debiased:DebiasedInfoNCE",
            s.DebiasedSettings,
        ),
        ObjectiveEntry(
            "hard",
            "the same, near negatives count more",
            "Robinson et al., ICLR 2021",
            f"{_IN}.debiased:DebiasedInfoNCE",
            s.HardSettings,
        ),
        ObjectiveEntry(
            "cacr",
            "far positives pull more, near negatives push more",
            "Zheng et al., TMLR 2023",
            f"{_IN}.cacr:CACR",
            s.CACRSettings,
        ),
        ObjectiveEntry(
            "align_uniform",
            "distance of views, and spread on the sphere",
            "Wang and Isola, ICML 2020",
            f"{_IN}.align_uniform:AlignUniform",
            s.AlignUniformSettings,
        ),
        ObjectiveEntry(
            "amcl",
            "several heads, with temperatures of their own for every pair",
            "Wang et al., ECCV 2024",
            f"{_IN}.amcl:AMCL",
            s.AMCLSettings,
            sizes=_DIM,
            cost="K N^2 d",
        ),
        ObjectiveEntry(
            "whitened",
            "second views whitened in shuffled groups of features as positives",
            "Zhuo et al., ACL 2023",
            f"{_IN}.whitened:WhitenedInfoNCE",
            s.WhitenedSettings,
            takes=(*_VIEWS, "rng"),
            sizes=_DIM,
            cost="K N^2 d",
        ),
        ObjectiveEntry(
            "mined",
            "only the nearest other rows as negatives",
            "Robinson et al., ICLR 2021; own",
            f"{_IN}.mined:MinedInfoNCE",
            s.MinedSettings,
        ),
        ObjectiveEntry(
            "adversarial",
            "negatives and distant positives made by a gradient step",
            "Lee et al., ICLR 2021",
            f"{_IN}.adversarial:Adversarial",
            s.AdversarialSettings,
        ),
        ObjectiveEntry(
            "overuse",
            "InfoNCE, and a price of features that all rows use",
            "Li et al., NeurIPS 2024",
            f"{_IN}.overuse:OveruseInfoNCE",
            s.OveruseSettings,
        ),
        ObjectiveEntry(
            "simctg",
            "the other view nearer than any row by a margin",
            "Su et al., NeurIPS 2022",
            f"{_IN}.simctg:SimCTG",
            s.SimCTGSettings,
        ),
        ObjectiveEntry(
            "paired_logistic",
            "the other view before one random row",
            "Rendle et al., UAI 2009",
            f"{_IN}.paired_logistic:PairedLogistic",
            s.PairedLogisticSettings,
            takes=(*_VIEWS, "rng"),
            cost="N d",
        ),
        ObjectiveEntry(
            "barlow_twins",
            "correlations of features towards the identity",
            "Zbontar et al., ICML 2021",
            f"{_IN}.barlow_twins:BarlowTwins",
            s.BarlowTwinsSettings,
            cost="N d^2",
        ),
        ObjectiveEntry(
            "adaptive_barlow",
            "the same, with a learned temperature for every pair of features",
            "Wang et al., ECCV 2024",
            f"{_IN}.adaptive_barlow:AdaptiveBarlow",
            s.AdaptiveBarlowSettings,
            sizes=_DIM,
            cost="N d^2",
        ),
        ObjectiveEntry(
            "vicreg",
            "near views, spread and uncorrelated features",
            "Bardes et al., ICLR 2022",
            f"{_IN}.vicreg:VICReg",
            s.VICRegSettings,
            cost="N d^2",
        ),
        ObjectiveEntry(
            "simsiam",
            "predict the other view, held constant",
            "Chen and He, CVPR 2021",
            f"{_IN}.predicted:PredictedSimSiam",
            s.SimSiamSettings,
            sizes=_DIM,
            cost="N d^2",
        ),
        # With a slow copy of the encoder, also as the teacher of those that distil.
        ObjectiveEntry(
            "byol",
            "predict a slow copy's representation of the other view",
            "Grill et al., NeurIPS 2020",
            f"{_IN}.predicted:PredictedBYOL",
            s.BYOLSettings,
            takes=_SLOW,
            sizes=_DIM,
            cost="N d^2",
        ),
        ObjectiveEntry(
            "moco",
            "pick a slow copy's view among a queue of earlier ones",
            "He et al., CVPR 2020",
            f"{_IN}.moco:MoCo",
            s.MoCoSettings,
            takes=("first", "target_second"),
            sizes=_DIM,
        ),
        ObjectiveEntry(
            "crd",
            "the same in both directions: contrastive distillation",
            "Tian et al., ICLR 2020",
            f"{_IN}.crd:CRD",
            s.CRDSettings,
            takes=_SLOW,
            sizes=_DIM,
        ),
        ObjectiveEntry(
            "distilled",
            "rank the teacher's hardest rows, and as the teacher does",
            "Rao et al., IEEE TMM 2023",
            f"{_IN}.distilled:DistilledInfoNCE",
            s.DistilledSettings,
            takes=_SLOW,
        ),
        ObjectiveEntry(
            "relational",
            "InfoNCE, and the teacher's softmax over all rows",
            "own",
            f"{_IN}.relational:Relational",
            s.RelationalSettings,
            takes=_SLOW,
        ),
        ObjectiveEntry(
            "feature_transfer",
            "InfoNCE, and the kernel distance to the teacher's features",
            "Huang and Wang, 2017",
            f"{_IN}.feature_transfer:FeatureTransfer",
            s.FeatureTransferSettings,
            takes=_SLOW,
        ),
        ObjectiveEntry(
            "model_contrast",
            "InfoNCE, and away from the model's own past",
            "Yu et al., ICLR 2023",
            f"{_IN}.model_contrast:ModelContrast",
            s.ModelContrastSettings,
            takes=(*_VIEWS, "target_first"),
        ),
        ObjectiveEntry(
            "beclr",
            "BYOL on a batch enlarged from a clustered memory",
            "Poulakakis-Daktylidis and Jamali-Rad, ICLR 2024",
            f"{_IN}.beclr:BECLR",
            s.BECLRSettings,
            takes=_SLOW,
            sizes=_DIM,
        ),
        # With labels.
        ObjectiveEntry(
            "supcon",
            "pick rows of the own class",
            "Khosla et al., NeurIPS 2020",
            f"{_IN}.supcon:SupCon",
            s.SupConSettings,
            takes=("stacked", "stacked_labels"),
        ),
        ObjectiveEntry(
            "coact",
            "SupCon with a slow copy's view as a third one",
            "Wang et al., 2024",
            f"{_IN}.coact:CoACT",
            s.CoACTSettings,
            takes=(*_VIEWS, "target_second", "labels"),
        ),
        ObjectiveEntry(
            "sepclr",
            "what one class lacks apart from what all have",
            "Louiset et al., ICLR 2024",
            f"{_IN}.sepclr:SepCLR",
            s.SepCLRSettings,
            takes=(*_VIEWS, "labels"),
        ),
        ObjectiveEntry(
            "hydra",
            "views compared in a part of the space that their class chooses",
            "Wu et al., 2024",
            f"{_IN}.hydra:Hydra",
            s.HydraSettings,
            takes=(*_VIEWS, "labels"),
            sizes=("dim", "num_classes"),
        ),
        # With more than two views, or other knowledge of rows.
        ObjectiveEntry(
            "symile",
            "all views of a row at once, by a product of three",
            "Saporta et al., NeurIPS 2024",
            f"{_IN}.symile:Symile",
            s.SymileSettings,
            takes=(*_VIEWS, "more", "rng"),
        ),
        ObjectiveEntry(
            "one_to_k",
            "one view against all others of a row",
            "Nie et al., KDD 2024",
            f"{_IN}.one_to_k:OneToK",
            s.OneToKSettings,
            takes=("first", "others"),
            cost="K N^2 d",
        ),
        ObjectiveEntry(
            "cwcl",
            "all rows as positives, by how near they are in frozen features",
            "Srinivasa et al., NeurIPS 2023",
            f"{_IN}.cwcl:CWCL",
            s.CWCLSettings,
            takes=(*_VIEWS, "side"),
        ),
        ObjectiveEntry(
            "debcse",
            "pairs drawn by what their surface does not explain",
            "Miao et al., EMNLP 2023",
            f"{_IN}.debcse:DebCSE",
            s.DebCSESettings,
            takes=(*_VIEWS, "side", "surface", "rng"),
        ),
        ObjectiveEntry(
            "multistage",
            "negatives from the clusters of earlier stages only",
            "Zhang et al., ECCV 2024",
            f"{_IN}.multistage:MultistageInfoNCE",
            s.MultistageSettings,
            takes=(*_VIEWS, "rows"),
            sizes=("dim", "num_rows"),
        ),
        ObjectiveEntry(
            "counterfactual",
            "InfoNCE, and each row against its own spoilt version",
            "Paiss et al., ICCV 2023",
            f"{_IN}.counterfactual:Counterfactual",
            s.CounterfactualSettings,
            takes=(*_VIEWS, "wrong"),
        ),
        ObjectiveEntry(
            "negclip",
            "InfoNCE with all spoilt versions among the negatives",
            "Yuksekgonul et al., ICLR 2023",
            f"{_IN}.negclip:NegCLIP",
            s.NegCLIPSettings,
            takes=(*_VIEWS, "wrong"),
        ),
    ]
)
