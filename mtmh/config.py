"""Settings of a run: one section a stage, one YAML file a size, checked as a
whole before anything starts.

Configurations never enter the method's classes: a stage function reads its own section and passes
plain arguments on.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtmh.head_settings import ChannelList, HeadList
from mtmh.heads import loss_weights
from mtmh.layers import read_layers
from mtmh.settings_check import check
from mtmh.step_settings import DEFAULTS, StepTable

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Percent = Annotated[int, Field(ge=0, le=100)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SyntheticSettings(Section):
    """Size and seed of the synthetic world (mtmh/data/synthetic.py)."""

    users: Count = 1500
    items: Count = 1400
    days: Count = 60
    seed: Annotated[int, Field(ge=0)] | None = None


class DataSettings(Section):
    """Stage prepare: contract, engagement filter, time split."""

    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    period: Literal["test", "validation"] = "test"
    max_rejected_share: Share = 0.01
    columns: dict[str, str] = {}  # the contract's name -> the name in the files
    missing_ids: Literal["reject", "keep"] = "reject"
    positive_events: list[str] = []
    min_value: float | None = None
    id_features: list[str] = ["creator_id"]
    float_features: list[str] = []
    statistics: list[Literal["log_popularity", "log_recent_popularity", "log_age_days"]] = [
        "log_popularity",
        "log_recent_popularity",
        "log_age_days",
    ]
    synthetic: SyntheticSettings = SyntheticSettings()


class PairSettings(Section):
    """Stage pairs: window over the interaction history (UIH), SIM weight,
    propensity (paper section 2), and whose pairs count.

    A pair of a user with n of them weighs n^-user_power. `half_life` is the share of T1's events
    by which a pair's weight halves; null: old ones weigh as much as new ones.
    """

    window: Count = 10
    sim: Literal["soft", "hard", "none"] = "none"
    beta: Annotated[float, Field(ge=0.0)] = 2.0
    propensity: bool = False
    user_power: Share = 0.0
    half_life: Annotated[float, Field(gt=0.0)] | None = None


class ConceptSettings(Section):
    """Contrastive training of the content encoder on concepts (paper section 4);
    it is skipped where there are none.

    Concepts of the sources in `leave_out` are not trained on. Entities are left out because they
    did not pay: on a sample of MIND the trained vectors' neighbours shared a topic no more often
    than the untrained ones', L1 topics less (`mtmh bench content`).
    """

    train: bool = True
    leave_out: list[str] = ["entity"]
    epochs: Count = 50
    patience: Count = 5
    batch_size: Annotated[int, Field(ge=2)] = 256
    lr: Positive = 1e-3
    tau: Positive = 0.07
    hidden: Count = 256
    modality_dropout: Share = 0.2
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1


class QualitySettings(Section):
    """The check that content which is alike shares topics, before the heads are trained on it."""

    min_auc: Share = 0.55
    below: Literal["warn", "stop"] = "warn"


class ContentSettings(Section):
    """Stage content. A backbone is a local directory or a hub id, with `@` and a
    commit behind it where it is pinned; the text backbone also "packaged" (MiniLM).
    """

    backbone: str = "packaged"
    visual_backbone: str | None = None
    modalities: Annotated[list[Literal["text", "image"]], Field(min_length=1)] = ["text", "image"]
    dim: Count = 128
    batch_size: Count = 64
    max_tokens: Count = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    concepts: ConceptSettings = ConceptSettings()
    quality: QualitySettings = QualitySettings()


class TrainSettings(Section):
    """Stage train (paper section 3). `w_r` weighs the distillation,
    `tau_p`/`tau_q` are student's and teacher's.

    `objective` is the short form of four lists of `heads`; where these are written, it and `w_r`
    do not count.
    `hard_negatives` a step are drawn from the content neighbours of the batch's triggers; 0 = none.
    `id_dropout` is the share of a batch's items shown as T1 would not know them: it teaches the
    model where cold items belong, by their creator and their own numbers. `kernels` auto takes the
    fused ones of mtmh/kernels where they pay.
    """

    objective: Literal["mtmh", "mtsh", "stmh", "engagement"] = "mtmh"
    heads: HeadList = []
    epochs: Count = 2
    batch_size: Annotated[int, Field(ge=2)] = 512
    uniform_negatives: Annotated[int, Field(ge=0)] = 512
    hard_negatives: Annotated[int, Field(ge=0)] = 0
    lr: Positive = 0.05
    tau_p: Positive = 0.1
    tau_q: Positive = 0.05
    w_r: Annotated[float, Field(ge=0.0)] = 0.5
    logq: bool = True
    id_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    embedding_dim: Count = 128
    hidden: list[Count] = [128]
    out_dim: Count = 128
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    kernels: Literal["auto", "torch"] = "auto"

    @model_validator(mode="after")
    def _check_heads(self) -> "TrainSettings":
        if self.heads and self.objective != "mtmh":
            raise ValueError(
                f"objective is {self.objective}, the short form of a list of heads, and heads has"
                " such a list too. Write objective: mtmh (the default) beside heads, or no heads."
            )
        return self

    def loss_weights(self) -> dict[str, tuple[float, float]]:
        """The model's heads in order, each with its weights of L_e and of L_r."""
        if not self.heads:
            return loss_weights(self.objective, self.w_r)
        return {head.name: (head.l_e, head.l_r) for head in self.heads}


class PrerankSettings(Section):
    """Stage preranker (paper section 5): candidates of each head that are ranked,
    weights of the tasks' logits.
    """

    use: bool = True
    candidates: Count = 1000
    weight: Annotated[float, Field(ge=0.0)] = 0.2
    long_dwell_weight: Annotated[float, Field(ge=0.0)] = 0.0
    long_dwell: Share = 0.5
    epochs: Count = 3
    batch_size: Annotated[int, Field(ge=2)] = 1024
    negatives: Count = 1024
    lr: Positive = 0.003
    dim: Count = 64
    hidden: Count = 128
    interests: Count = 64
    new_share: Share = 0.1
    device: Literal["auto", "cpu", "cuda"] = "auto"


class RetrievalSettings(Section):
    """Stages index and evaluate (paper sections 5 and 6). `alpha` is the served
    quota of the engagement head, in percent.

    That is the short form for two; `channels` names any number with their quotas. A request, an arm
    or `alphas` may still change alpha: the other channels share what it leaves in proportion.
    """

    k_ann: Count = 1000
    min_recall: Share = 0.95
    temperature: Positive = 0.15
    cold: Literal["content", "model"] = "content"
    triggers: Count = 50
    pool: Count = 500
    alphas: list[Percent] = [0, 30, 50, 70, 100]
    alpha: Percent = 50
    channels: ChannelList = []

    @model_validator(mode="after")
    def _check_channels(self) -> "RetrievalSettings":
        quotas = {channel.name: channel.quota for channel in self.channels}
        if len(quotas) > 1 and quotas.get("engagement", self.alpha) != self.alpha:
            raise ValueError(
                f"alpha is {self.alpha}, and channels gives the channel engagement"
                f" {quotas['engagement']}: both are its quota. Write alpha: {quotas['engagement']}."
            )
        return self


class EvaluationSettings(Section):
    """Stage evaluate: users in the seeded sample whose candidates are written
    out; the age up to which one is fresh.
    """

    sample_users: Count = 2000
    fresh_hours: Positive = 24.0


class GateSettings(Section):
    """Stage gate: floors against the baselines, and the paired bootstrap against the champion."""

    baseline_recall_ratio: Annotated[float, Field(ge=0.0)] = 1.0
    relevance_ratio: Annotated[float, Field(ge=0.0)] = 1.0
    min_coverage: Share = 0.3
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    bootstrap: Annotated[int, Field(ge=100)] = 500


class ClusterSettings(Section):
    """What a cluster gives: to each step its line of the table `steps`, to all a volume or an
    object store. A local run does not read it.
    """

    volume_claim: str = ""  # PersistentVolumeClaim: data, checkpoints, runs, the champion's link
    volume: str = "/mnt/mtmh"  # where every step finds it
    scratch: str = ""  # checkpoints and the content cache; empty: on the volume; or a URL (s3://..)
    store: str = ""  # what serves, a folder a data set; empty: on the volume; or a URL
    object_secret: str = ""  # Secret with AWS_ACCESS_KEY_ID, .._SECRET_ACCESS_KEY, AWS_ENDPOINT_URL
    mlflow_secret: str = ""  # Secret with username and password, or a token, of the MLflow server
    namespace: str = ""  # of k8s/: deploy rolls its pods, histories fills their Redis
    # Of the users that a new version serves first, until mtmh promote; 0: all of them at once.
    canary: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    service_account: str = ""  # of the steps; deploy needs k8s/base/deploy-account.yaml
    kubeflow_namespace: str = ""  # of a profile; empty: a Kubeflow Pipelines of one user
    experiment: str = "mtmh"  # what holds the runs on the Kubeflow Pipelines server
    local_images: bool = False  # the nodes have the image, and no registry does (kind, minikube)
    image_pull_secret: str = ""  # Secret by which nodes pull the image, where the account has none
    gpu_resource: str = "nvidia.com/gpu"
    steps: StepTable = DEFAULTS


class Config(Section):
    """A whole run."""

    seed: Annotated[int, Field(ge=0)] = 0
    data: DataSettings = DataSettings()
    pairs: PairSettings = PairSettings()
    content: ContentSettings = ContentSettings()
    train: TrainSettings = TrainSettings()
    prerank: PrerankSettings = PrerankSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _check_channels(self) -> "Config":
        """A channel's head is trained."""
        heads = list(self.train.loss_weights())
        if unknown := [c.head for c in self.retrieval.channels if c.head not in heads]:
            raise ValueError(
                f"retrieval.channels names {' and '.join(map(repr, unknown))}, and the heads that"
                f" are trained are {', '.join(heads)}. Name one of these, or add it to train.heads."
            )
        return self

    @model_validator(mode="after")
    def _check_devices(self) -> "Config":
        """No GPU is reserved for a step that is told to leave it alone."""
        for step, device in self.devices().items():
            if device == "cpu" and self.cluster.steps[step].gpus:
                raise ValueError(
                    f"cluster.steps.{step}.gpus is 1, but the step's device is cpu: it would be"
                    " reserved and idle. Write 0, or device: auto."
                )
        return self

    def devices(self) -> dict[str, str]:
        """What the steps that can be told where to compute are told: auto, cpu or cuda."""
        return {
            "content": self.content.device,
            "train": self.train.device,
            "preranker": self.prerank.device,
        }


def load_config(*layers: Path, settings: list[str] | None = None) -> Config:
    """Read YAML files, later ones over earlier ones, then `section.key=value`
    settings, and check the whole.

    Raises UserError naming every wrong key and value at once.
    """
    merged = read_layers(layers, settings or [])
    where = " + ".join([p.name for p in layers] + list(settings or [])) or "the defaults"
    return check(Config, merged, where)
