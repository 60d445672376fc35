"""Settings of every objective that can be chosen by name; each class takes the parameters of one and no others."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from nearfar.config.settings import Settings


def _temperature(default: float) -> Any:
    return Field(default, ge=0.01, le=100, description="Softmax temperature.")


def _weight(default: float, what: str) -> Any:
    return Field(default, ge=0, le=1e4, description=f"Weight of {what}.")


class ObjectiveSettings(Settings):
    """What all have: a name.

    Attributes:
        outside: Parameters that are not the loss's own but of what feeds it.
    """

    outside: ClassVar[frozenset[str]] = frozenset({"name", "momentum"})

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the loss."""
        return {key: value for key, value in self.model_dump().items() if key not in self.outside}


class SlowCopySettings(ObjectiveSettings):
    """Those that compare with a slow copy of the encoder."""

    momentum: float = Field(0.99, ge=0, le=1, description="Of the slow copy.")


class InfoNCESettings(ObjectiveSettings):
    """Other view among those of all rows."""

    name: Literal["infonce"] = "infonce"
    temperature: float = _temperature(0.1)
    symmetric: bool = Field(True, description="Average both directions.")


class NTXentSettings(ObjectiveSettings):
    """Other view among all views of all rows."""

    name: Literal["ntxent"] = "ntxent"
    temperature: float = _temperature(0.1)


class DCLSettings(ObjectiveSettings):
    """Without the positive in the denominator."""

    name: Literal["dcl"] = "dcl"
    temperature: float = _temperature(0.1)


class DCLWSettings(ObjectiveSettings):
    """DCL with weights."""

    name: Literal["dclw"] = "dclw"
    temperature: float = _temperature(0.1)
    sigma: float = Field(0.5, ge=0.01, le=100, description="Width of the weighting.")


class SigLIPSettings(ObjectiveSettings):
    """Every pair a yes or no."""

    name: Literal["siglip"] = "siglip"


class BarlowTwinsSettings(ObjectiveSettings):
    """Cross-correlation towards the identity."""

    name: Literal["barlow_twins"] = "barlow_twins"
    off_diagonal_weight: float = _weight(5e-3, "correlations of different features")


class AdaptiveBarlowSettings(ObjectiveSettings):
    """Barlow Twins with learned temperatures."""

    name: Literal["adaptive_barlow"] = "adaptive_barlow"
    off_diagonal_weight: float = _weight(5e-3, "correlations of different features")
    beta: float = _weight(1e-3, "the price of temperatures")


class VICRegSettings(ObjectiveSettings):
    """Invariance, variance, covariance."""

    name: Literal["vicreg"] = "vicreg"
    invariance_weight: float = _weight(25.0, "the distance of views")
    variance_weight: float = _weight(25.0, "what variances lack to 1")
    covariance_weight: float = _weight(1.0, "covariances")


class SimSiamSettings(ObjectiveSettings):
    """Predict the other view, held constant."""

    name: Literal["simsiam"] = "simsiam"


class BYOLSettings(SlowCopySettings):
    """Predict a slow copy's representation of the other view."""

    name: Literal["byol"] = "byol"


class AlignUniformSettings(ObjectiveSettings):
    """Distance of views, and spread on the sphere."""

    name: Literal["align_uniform"] = "align_uniform"
    weight: float = _weight(1.0, "uniformity")
    t: float = Field(2.0, ge=0.01, le=100, description="Sharpness of the potential.")


class CACRSettings(ObjectiveSettings):
    """Far positives and near negatives count more."""

    name: Literal["cacr"] = "cacr"
    t_pos: float = Field(1.0, ge=0, le=100, description="How much more a far positive counts.")
    t_neg: float = Field(2.0, ge=0, le=100, description="How much more a near negative counts.")
    alpha: float = _weight(1.0, "attraction")
    beta: float = _weight(1.0, "repulsion")


class AMCLSettings(ObjectiveSettings):
    """Several heads, a temperature for every pair."""

    name: Literal["amcl"] = "amcl"
    heads: int = Field(3, ge=1, le=64, description="Heads.")
    beta: float = _weight(0.1, "the price of temperatures")
    negatives: Literal["lse", "max"] = Field("lse", description="All negatives, or the hardest (paper).")
    initial_temperature: float = _temperature(0.1)


class DebiasedSettings(ObjectiveSettings):
    """Negatives corrected by how many are false."""

    name: Literal["debiased"] = "debiased"
    temperature: float = _temperature(0.5)
    tau_plus: float = Field(0.1, ge=0, lt=1, description="Share of false negatives.")


class HardSettings(ObjectiveSettings):
    """The same, near negatives count more."""

    name: Literal["hard"] = "hard"
    temperature: float = _temperature(0.5)
    tau_plus: float = Field(0.1, ge=0, lt=1, description="Share of false negatives.")
    beta: float = Field(1.0, ge=0, le=100, description="How much more a near negative counts.")


class WhitenedSettings(ObjectiveSettings):
    """Whitened second views as positives."""

    name: Literal["whitened"] = "whitened"
    temperature: float = _temperature(0.05)
    groups: int = Field(8, ge=1, le=4096, description="Groups of features whitened together; divides dim.")
    num_pos: int = Field(3, ge=1, le=64, description="Positives of a row.")


class SimCTGSettings(ObjectiveSettings):
    """Hinge on cosines."""

    name: Literal["simctg"] = "simctg"
    margin: float = Field(0.5, ge=0, le=2, description="By which the positive has to be nearer.")


class OveruseSettings(ObjectiveSettings):
    """InfoNCE, and a price of features that all rows use."""

    name: Literal["overuse"] = "overuse"
    temperature: float = _temperature(0.1)
    weight: float = _weight(0.1, "the price")


class AdversarialSettings(ObjectiveSettings):
    """InfoNCE with a negative that a gradient step has made."""

    name: Literal["adversarial"] = "adversarial"
    temperature: float = _temperature(0.1)
    eps: float = Field(0.5, ge=0.001, le=10, description="Length of the step, of that of the vector.")
    weight: float = _weight(1.0, "made negatives and positives")


class MinedSettings(ObjectiveSettings):
    """The nearest other rows as negatives."""

    name: Literal["mined"] = "mined"
    temperature: float = _temperature(0.1)
    count: int = Field(16, ge=1, le=65_536, description="Negatives of a row.")


class PairedLogisticSettings(ObjectiveSettings):
    """One negative a row."""

    name: Literal["paired_logistic"] = "paired_logistic"
    beta: float = Field(5.0, ge=0.01, le=100, description="Steepness.")


class MoCoSettings(SlowCopySettings):
    """Negatives from a queue."""

    name: Literal["moco"] = "moco"
    temperature: float = _temperature(0.2)
    queue: int = Field(4096, ge=1, le=10_000_000, description="Keys kept.")


class CRDSettings(SlowCopySettings):
    """MoCo in both directions."""

    name: Literal["crd"] = "crd"
    temperature: float = _temperature(0.1)
    queue: int = Field(4096, ge=1, le=10_000_000, description="Keys kept.")


class ModelContrastSettings(SlowCopySettings):
    """InfoNCE, and away from the model's own past."""

    name: Literal["model_contrast"] = "model_contrast"
    temperature: float = _temperature(0.5)
    weight: float = _weight(1.0, "the contrast with the past")


class DistilledSettings(SlowCopySettings):
    """Rank the teacher's candidates as the teacher does."""

    name: Literal["distilled"] = "distilled"
    temperature: float = _temperature(0.1)
    teacher_temperature: float = _temperature(0.1)
    alpha: float = Field(0.2, ge=0, le=1, description="Share of distillation in the loss.")
    count: int = Field(7, ge=1, le=65_536, description="Candidates of a row.")
    weighting: Literal["entropy", "focal", "uniform"] = Field("entropy", description="Of rows.")


class RelationalSettings(SlowCopySettings):
    """InfoNCE, and the teacher's softmax over all rows."""

    name: Literal["relational"] = "relational"
    temperature: float = _temperature(0.1)
    teacher_temperature: float = _temperature(0.1)
    weight: float = _weight(1.0, "distillation")


class FeatureTransferSettings(SlowCopySettings):
    """InfoNCE, and the distance of student and teacher features as samples."""

    name: Literal["feature_transfer"] = "feature_transfer"
    temperature: float = _temperature(0.1)
    weight: float = _weight(1.0, "the distance")


class BECLRSettings(SlowCopySettings):
    """BYOL on a batch that a clustered memory has enlarged."""

    name: Literal["beclr"] = "beclr"
    capacity: int = Field(1024, ge=2, le=10_000_000, description="Rows of the memory.")
    prototypes: int = Field(32, ge=1, le=65_536, description="Clusters of it.")
    neighbours: int = Field(3, ge=0, le=1000, description="Rows it adds to each row.")
    temperature: float = _temperature(2.0)
    weight: float = _weight(0.1, "spread")


class SupConSettings(ObjectiveSettings):
    """Rows of the same class as positives."""

    name: Literal["supcon"] = "supcon"
    temperature: float = _temperature(0.1)


class CoACTSettings(SlowCopySettings):
    """SupCon with the slow copy's view as a third one."""

    name: Literal["coact"] = "coact"
    temperature: float = _temperature(0.07)


class SepCLRSettings(ObjectiveSettings):
    """What all classes have in common apart from what all but one have."""

    name: Literal["sepclr"] = "sepclr"
    background: int = Field(0, ge=0, description="The class that has nothing of its own.")
    temperature: float = _temperature(0.5)
    weight_salient: float = _weight(1.0, "the salient half")
    weight_info: float = _weight(1.0, "silence of the background")
    weight_joint: float = _weight(0.1, "independence of the halves")


class HydraSettings(ObjectiveSettings):
    """Views compared in a part of the space that their class chooses."""

    name: Literal["hydra"] = "hydra"
    temperature: float = _temperature(0.1)
    embedding: int = Field(64, ge=1, le=8192, description="Width of a class's code.")


class CWCLSettings(ObjectiveSettings):
    """Every row a positive by how near it is elsewhere."""

    name: Literal["cwcl"] = "cwcl"
    temperature: float = _temperature(0.1)


class DebCSESettings(ObjectiveSettings):
    """Pairs drawn by what their surface does not explain."""

    name: Literal["debcse"] = "debcse"
    temperature: float = _temperature(0.1)
    gamma: float = Field(1.0, ge=0, le=100, description="Weight of meaning in the draw.")
    surface_temperature: float = _temperature(0.1)
    guard: float = Field(0.9, ge=0, le=1, description="Rows nearer than this are no negatives.")
    positives: int = Field(4, ge=1, le=65_536, description="Nearest rows that one is drawn from.")
    negatives: int = Field(32, ge=1, le=65_536, description="Draws of a row.")


class SymileSettings(ObjectiveSettings):
    """All views of a row at once."""

    name: Literal["symile"] = "symile"
    temperature: float = _temperature(0.1)
    negatives: Literal["n", "n_squared"] = Field("n", description="Shuffled once, or all combinations.")


class OneToKSettings(ObjectiveSettings):
    """One view against all others of a row."""

    name: Literal["one_to_k"] = "one_to_k"
    temperature: float = _temperature(0.1)
    k_reduction: Literal["mean", "sum"] = Field("mean", description="Over the others; sum as released.")


class CounterfactualSettings(ObjectiveSettings):
    """InfoNCE, and each row against its own spoilt version."""

    name: Literal["counterfactual"] = "counterfactual"
    temperature: float = _temperature(0.1)
    weight: float = _weight(1.0, "spoilt versions")


class NegCLIPSettings(ObjectiveSettings):
    """InfoNCE with the spoilt versions of all rows as negatives."""

    name: Literal["negclip"] = "negclip"
    temperature: float = _temperature(0.1)


class MultistageSettings(ObjectiveSettings):
    """Negatives from the clusters of earlier stages."""

    name: Literal["multistage"] = "multistage"
    temperature: float = _temperature(0.1)
    clusters: int = Field(10, ge=1, le=65_536, description="Of a stage.")
    stages: int = Field(3, ge=1, le=64, description="How often clusters are found, and one.")
    stage_steps: int = Field(100, ge=1, description="Steps of a stage.")
