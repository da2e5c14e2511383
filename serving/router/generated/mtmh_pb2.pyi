from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Trigger(_message.Message):
    __slots__ = ("item_id", "id_features", "float_features", "content")
    class IdFeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class FloatFeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FEATURES_FIELD_NUMBER: _ClassVar[int]
    FLOAT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    id_features: _containers.ScalarMap[str, str]
    float_features: _containers.ScalarMap[str, float]
    content: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, item_id: _Optional[str] = ..., id_features: _Optional[_Mapping[str, str]] = ..., float_features: _Optional[_Mapping[str, float]] = ..., content: _Optional[_Iterable[float]] = ...) -> None: ...

class Filters(_message.Message):
    __slots__ = ("exclude_seen", "allow_topics", "deny_topics", "max_age_hours")
    EXCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    ALLOW_TOPICS_FIELD_NUMBER: _ClassVar[int]
    DENY_TOPICS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_HOURS_FIELD_NUMBER: _ClassVar[int]
    exclude_seen: bool
    allow_topics: _containers.RepeatedScalarFieldContainer[str]
    deny_topics: _containers.RepeatedScalarFieldContainer[str]
    max_age_hours: float
    def __init__(self, exclude_seen: _Optional[bool] = ..., allow_topics: _Optional[_Iterable[str]] = ..., deny_topics: _Optional[_Iterable[str]] = ..., max_age_hours: _Optional[float] = ...) -> None: ...

class RetrieveRequest(_message.Message):
    __slots__ = ("user_id", "triggers", "k", "alpha", "filters", "quotas")
    class QuotasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    triggers: _containers.RepeatedCompositeFieldContainer[Trigger]
    k: int
    alpha: float
    filters: Filters
    quotas: _containers.ScalarMap[str, float]
    def __init__(self, user_id: _Optional[str] = ..., triggers: _Optional[_Iterable[_Union[Trigger, _Mapping]]] = ..., k: _Optional[int] = ..., alpha: _Optional[float] = ..., filters: _Optional[_Union[Filters, _Mapping]] = ..., quotas: _Optional[_Mapping[str, float]] = ...) -> None: ...

class SimilarRequest(_message.Message):
    __slots__ = ("item", "k", "alpha", "user_id", "quotas")
    class QuotasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ITEM_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    item: Trigger
    k: int
    alpha: float
    user_id: str
    quotas: _containers.ScalarMap[str, float]
    def __init__(self, item: _Optional[_Union[Trigger, _Mapping]] = ..., k: _Optional[int] = ..., alpha: _Optional[float] = ..., user_id: _Optional[str] = ..., quotas: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("item_id", "score", "head", "head_rank", "trigger_id")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HEAD_RANK_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_ID_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    head: str
    head_rank: int
    trigger_id: str
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., head: _Optional[str] = ..., head_rank: _Optional[int] = ..., trigger_id: _Optional[str] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("request_id", "model_version", "arm", "alpha", "degraded", "missing", "candidates", "timings_ms", "exposure_logged", "exposure_id", "quotas")
    class TimingsMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class QuotasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    EXPOSURE_LOGGED_FIELD_NUMBER: _ClassVar[int]
    EXPOSURE_ID_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model_version: str
    arm: str
    alpha: float
    degraded: bool
    missing: _containers.RepeatedScalarFieldContainer[str]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    timings_ms: _containers.ScalarMap[str, float]
    exposure_logged: bool
    exposure_id: str
    quotas: _containers.ScalarMap[str, float]
    def __init__(self, request_id: _Optional[str] = ..., model_version: _Optional[str] = ..., arm: _Optional[str] = ..., alpha: _Optional[float] = ..., degraded: _Optional[bool] = ..., missing: _Optional[_Iterable[str]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., timings_ms: _Optional[_Mapping[str, float]] = ..., exposure_logged: _Optional[bool] = ..., exposure_id: _Optional[str] = ..., quotas: _Optional[_Mapping[str, float]] = ...) -> None: ...
