"""The sections of a configuration, field by field. Every field has an effect; an unknown one is an error."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class ModelConfig(Section):
    """Which network. ``options`` are fields of :class:`resight.models.ResNetSpec` that differ from the name's.

    zero_gamma: every block starts as its shortcut (Goyal et al. 2017, §5.1). whitening: the first convolution starts
    as a whitening of the training pictures' patches (Jordan 2024, §3.2). checkpointing: activations are computed
    again for the backward pass, for memory; auto: where memory needs it. freeze: the deepest part that keeps its
    weights, with all before it; ``backbone`` is everything but the last layer. norms: whether the norms' statistics
    follow the batches (``train``) or stay those of the weights (``frozen``), in the parts that are not frozen anyway.
    """

    name: str = "resnet18"
    options: dict[str, str | int | float | bool] = {}
    weights: str | None = None
    zero_gamma: bool = True
    whitening: bool = False
    checkpointing: bool | Literal["auto"] = "auto"
    freeze: Literal["none", "stem", "stage1", "stage2", "stage3", "stage4", "backbone"] = "none"
    norms: Literal["train", "frozen"] = "train"


class TransferConfig(Section):
    """How weights are used that come from elsewhere.

    rung: ``none``: all layers are trained from the weights as they are. ``features``: the last layer alone, by logistic
    regression over the frozen network's embeddings. ``lpft``: that layer is the first candidate, then all layers are
    trained, and the best by validation is kept, which may be the first. head: what the last layer of that training
    starts as: the ``probe`` (LP-FT, Kumar et al. 2022), or ``new``, which a long training is better with. folds: where
    fewer than 30 pictures validate and fewer than 1,000 train, so many parts of the training pictures are held out in
    turn to choose the rung; 0: validation chooses, however small.
    """

    rung: Literal["none", "features", "lpft"] = "none"
    head: Literal["probe", "new"] = "probe"
    folds: Literal[0, 2, 3, 5] = 0


class DataConfig(Section):
    """Where the pictures are and what the network sees of them.

    image_size: side in pixels of the answering square. train_size: side while training, if another. start_scale:
    side at the first update, as a share of train_size; it grows in steps to train_size, reached after the fraction
    ``grow_until`` of the updates. 1: no growth. fix_share: share of the updates, at the end, in which only the last
    layer and the norm before it learn, from pictures as they will be answered: of image_size, mirrored at most
    (FixRes, Touvron et al. 2019, §4).
    crop_ratio: side of the centre crop divided by the shorter side of the resized picture, for ``crop``.
    geometry_version: how JPEGs are decoded: 1 in full, 2 large ones at a part of their size.
    channels: 1 (grey), 3 (RGB), or 2 and 4 to 16, see docs/channels.md; 0 decides by the files. mean, std: of pixels in
    [0, 1], empty: measured.
    workers: threads that decode. cache_gb: decoded pictures kept in memory, in GiB. disk_cache_gb: the most that
    decoded pictures of all trainings take on the disk, in GiB; a part that does not fit into memory is kept there; 0
    for none.
    """

    path: str = ""
    val_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1)
    skip_bad: bool = False
    image_size: int = Field(0, ge=0, le=4096)
    train_size: int = Field(0, ge=0, le=4096)
    start_scale: float = Field(1.0, ge=0.25, le=1)
    grow_until: float = Field(0.7, gt=0, lt=1)
    fix_share: float = Field(0.0, ge=0, lt=1)
    geometry: Literal["crop", "squash", "letterbox", "tiles"] = "crop"
    crop_ratio: float = Field(1.0, gt=0, le=1)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    geometry_version: Literal[1, 2] = 2
    channels: int = Field(0, ge=0, le=16)
    mean: list[float] = []
    std: list[float] = []
    workers: int = Field(2, ge=0, le=64)
    cache_gb: float = Field(4.0, ge=0)
    disk_cache_gb: float = Field(20.0, ge=0)


class TilesConfig(Section):
    """How pictures are cut into tiles, and how bags of them are learned from; only with ``data.geometry=tiles``.

    side: of a tile, in pixels of the picture; each is resized to ``data.image_size``. 0: the same. stride: from one
    tile to the next, in pixels of the picture; 0: half of the side: what is no larger lies whole in some tile.
    attention: the hidden width of the gated attention (Ilse et al. 2018, eq. 9). bag: the most tiles of a picture that
    an update learns from. drawn: which share of these is drawn at random; the others are those with most attention.
    start: what attention begins with: what is ``rare`` among the tiles of the training pictures, chance (``random``),
    or that of the ``weights``, which is taken where they have one and nothing else is said.
    """

    side: int = Field(0, ge=0, le=8192)
    stride: int = Field(0, ge=0, le=8192)
    attention: int = Field(64, ge=1, le=4096)
    bag: int = Field(32, ge=2, le=4096)
    drawn: float = Field(0.5, ge=0, le=1)
    start: Literal["rare", "random", "weights"] = "rare"


class AugmentConfig(Section):
    """What is changed at random in each training picture.

    crop: ``resized`` (random area and aspect; Szegedy et al. 2015), ``shift`` (by up to ``shift`` pixels;
    He et al. 2015, §4.2), ``none``. crop_from: what ``resized`` cuts from where ``data.geometry`` is ``squash`` or
    ``letterbox``: the picture, or the square that is answered, so that objects have the shape and the grey around them
    that they will have. flip: ``random``, or ``alternate``: at random in the first epoch, from then on
    the other way round in each (Jordan 2024, §3.6). policy: ``trivial`` (TrivialAugment, Müller and Hutter 2021) or
    ``rand`` (RandAugment, Cubuk et al. 2020; ``rand_count`` operations of strength ``rand_magnitude`` of 30).
    color: brightness, contrast and saturation factors in [1 − color, 1 + color]. hue: turned by up to this part of the
    circle; color_share: probability that a picture's colours are changed by these two. gray: probability that all
    colours go; blur: of a Gaussian blur, of a standard deviation of 0.05 to 1 % of the side (Chen et al. 2020, §A).
    erasing: probability (Zhong et al. 2017). mixup, cutmix: the α of their Beta distributions, 0 turns them off; with
    both, each is taken for half of the batches (Zhang et al. 2018; Yun et al. 2019).
    """

    crop: Literal["none", "shift", "resized"] = "resized"
    crop_from: Literal["picture", "square"] = "square"
    scale_min: float = Field(0.35, gt=0, le=1)
    scale_max: float = Field(1.0, gt=0, le=1)
    shift: int = Field(4, ge=0)
    shift_padding: Literal["zero", "reflect"] = "reflect"
    flip: Literal["none", "random", "alternate"] = "random"
    policy: Literal["none", "trivial", "rand"] = "none"
    rand_count: int = Field(2, ge=1, le=4)
    rand_magnitude: float = Field(9, ge=0, le=30)
    color: float = Field(0.0, ge=0, lt=1)
    hue: float = Field(0.0, ge=0, le=0.5)
    color_share: float = Field(1.0, gt=0, le=1)
    gray: float = Field(0.0, ge=0, le=1)
    blur: float = Field(0.0, ge=0, le=1)
    erasing: float = Field(0.0, ge=0, le=1)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)


class OptimizerConfig(Section):
    """lr: the peak rate, for the whole effective batch. muon_scale: with ``muon``, the rate of the weights that it
    orthogonalises (Jordan et al. 2024), as a share of ``lr``; all others take SGD steps. decay_norms: also decay norms
    and biases. layer_decay: the rate of each stage, as a share of the next one's; the last layer has ``lr``.

    clip: largest gradient norm, 0 for none. average_epochs: horizon of the exponential moving average of
    the weights, in epochs; 0 for none.
    """

    name: Literal["sgd", "adamw", "lamb", "muon"] = "sgd"
    lr: float = Field(0.1, gt=0)
    muon_scale: float = Field(0.25, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    beta2: float = Field(0.999, gt=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    decay_norms: bool = False
    layer_decay: float = Field(1.0, gt=0, le=1)
    clip: float = Field(0.0, ge=0)
    average_epochs: float = Field(0.0, ge=0)


class ScheduleConfig(Section):
    """``cosine`` to zero, ``onecycle`` (linear up over ``warmup`` and linear down), ``step`` (times ``gamma`` at
    each milestone), ``constant``. warmup and milestones are fractions of the training, in [0, 1]. warmup_rate: the rate
    until the end of the warm-up, as a share of the peak (He et al. 2015, §4.2); 0: it rises linearly."""

    name: Literal["cosine", "onecycle", "step", "constant"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)
    warmup_rate: float = Field(0.0, ge=0, le=1)
    milestones: list[float] = []
    gamma: float = Field(0.1, gt=0, lt=1)


class BalanceConfig(Section):
    """What is done about classes of different size; at most one of weights, sampling and logit_adjustment.

    weights: how much a picture of each class counts in the loss: ``inverse`` to the class's number of pictures n, to
    its ``sqrt``, or to its ``effective`` number (1 − βⁿ) / (1 − β) (Cui et al. 2019, eq. 2); the mean over the training
    pictures is 1.
    sampling: how often its pictures come: ``balanced`` draws all classes equally often, ``sqrt`` in proportion to √n
    (Kang et al. 2020, §3). logit_adjustment: τ; the loss sees logits + τ · ln(share of the class), answers are plain
    logits (Menon et al. 2021, eq. 10), which so refer to classes of equal size for τ = 1.
    """

    weights: Literal["none", "inverse", "sqrt", "effective"] = "none"
    beta: float = Field(0.999, gt=0, lt=1)
    sampling: Literal["none", "balanced", "sqrt"] = "none"
    logit_adjustment: float = Field(0.0, ge=0, le=10)


class DistillConfig(Section):
    """Learning from a teacher's answers beside the labels (Hinton et al. 2015, §2), each of the very picture that the
    student sees, changed and mixed as it is (Beyer et al. 2022, §3).

    teacher: a sealed Run of the same classes. sha256: of its weights, 64 hexadecimal digits; empty: recorded when
    training starts. weight: of the teacher's part in the loss, the labels have the rest; 1: the teacher alone.
    temperature: T, by which both sides' logits are divided; the part is multiplied by T².
    """

    teacher: str | None = None
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    weight: float = Field(0.5, gt=0, le=1)
    temperature: float = Field(4.0, gt=0)


class PretrainConfig(Section):
    """Learning without labels, by ``resight pretrain`` alone (:mod:`resight.pretraining`, docs/pretraining.md).

    method: ``none`` in every other training. unlabelled: take folders for no classes. views: of each picture in a
    batch, by ``augment``. local_views: further, smaller ones (multi-crop, Caron et al. 2020, §3.2) of ``local_size``
    pixels, with ``local_min`` to ``local_max`` of the picture's area. hidden, width: of the layers after the embedding,
    and of what the loss compares. temperature: of the similarities (SimCLR), of the student's answers (DINO);
    teacher_temperature: of the teacher's. momentum: with which the target network follows at the start; it rises to 1
    (Grill et al. 2020, §3.2). center: the same for the mean of the teacher's answers (Caron et al. 2021, eq. 4).
    stop_gradient: false lets the gradient into the target, which makes answers collapse: for showing that.
    watch_steps: updates between two looks whether they have collapsed.
    """

    method: Literal["none", "simclr", "byol", "fastsiam", "dino"] = "none"
    unlabelled: bool = False
    views: int = Field(2, ge=2, le=8)
    local_views: int = Field(0, ge=0, le=16)
    local_size: int = Field(0, ge=0, le=512)
    local_min: float = Field(0.1, gt=0, le=1)
    local_max: float = Field(0.4, gt=0, le=1)
    hidden: int = Field(512, ge=1, le=8192)
    width: int = Field(128, ge=2, le=65536)
    temperature: float = Field(0.5, gt=0)
    teacher_temperature: float = Field(0.04, gt=0)
    momentum: float = Field(0.99, ge=0, lt=1)
    center: float = Field(0.9, ge=0, lt=1)
    stop_gradient: bool = True
    watch_steps: int = Field(100, ge=1)
