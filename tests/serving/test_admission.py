"""How much is held, to the last picture and byte."""

from __future__ import annotations

from contextlib import suppress

import pytest

from resight.errors import UsageError
from resight.serving.admission import Admission
from resight.serving.limits import Limits
from resight.serving.metrics import Metrics
from resight.serving.refusals import Refused


def test_pictures_and_bytes_are_bounded_and_given_back() -> None:
    metrics = Metrics()
    admission = Admission(Limits(threads=1, queue=3, queue_bytes=100, max_bytes=100), metrics)
    with admission.ticket() as one:
        one.take(pictures=2, size=60)
        with admission.ticket() as two:
            with pytest.raises(Refused, match="bytes") as refused:
                two.take(size=41)
            assert (refused.value.status, refused.value.reason) == (429, "full")
            two.take(size=40)
            with pytest.raises(Refused, match="pictures"):
                two.take(pictures=2)
            two.take(pictures=1)
            assert metrics.registry.get_sample_value("resight_pending") == 3
            with pytest.raises(Refused) as refused:
                admission.check()
            assert 1 <= (refused.value.retry_after or 0) <= 30
        admission.check()
        with suppress(ZeroDivisionError), admission.ticket() as three:
            three.take(pictures=1)
            raise ZeroDivisionError
    assert (admission.pictures, admission.bytes) == (0, 0)
    assert metrics.registry.get_sample_value("resight_pending_bytes") == 0


def test_nothing_is_accepted_at_the_end() -> None:
    admission = Admission(Limits(threads=1), Metrics())
    admission.draining = True
    with pytest.raises(Refused) as refused:
        admission.ticket()
    assert refused.value.status == 503
    assert refused.value.close


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"batch": 0}, {"queue": -1}, {"deadline": 0}, {"max_bytes": 2**40}, {"max_pixels": 0}]
)
def test_limits_that_allow_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Limits(**{"threads": 1} | wrong)
