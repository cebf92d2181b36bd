"""When background work is due: gathering, backoff with jitter, the circuit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core.limits import GATHERED_DEBOUNCES_MAX
from grit.core.pacing import CLOSED, HALF_OPEN, OPEN, Circuit, Gathered, Pace, gather

PACE = Pace(retry_ms_min=100, failures_max=3, pause_ms_min=10_000, pause_ms_max=40_000)


def test_events_are_answered_after_a_quiet_time() -> None:
    """The run is due one debounce after the last event."""
    gathered = gather(gather(None, 1_000), 1_200)
    assert gathered == Gathered(1_000, 1_200)
    assert gathered.due_ms(500) == 1_700


@given(st.lists(st.integers(0, 400), min_size=1, max_size=200), st.integers(1, 1_000))
def test_events_without_end_are_answered(gaps: list[int], debounce_ms: int) -> None:
    """However dense the events are, the run is due a bounded time after the first."""
    now, gathered = 5, gather(None, 5)
    for gap in gaps:
        now += gap
        gathered = gather(gathered, now)
    most = 5 + GATHERED_DEBOUNCES_MAX * debounce_ms
    assert gathered.due_ms(debounce_ms) == min(now + debounce_ms, most)


def test_a_new_circuit_allows_a_try_at_once() -> None:
    """Without a failure nothing waits, and one try runs at a time."""
    circuit = Circuit()
    assert circuit.state == CLOSED
    assert circuit.allows(0)
    assert not circuit.begun().allows(0)
    assert circuit.begun().state == CLOSED


def test_each_failure_waits_longer_until_the_circuit_opens() -> None:
    """The waits double; from the third failure on they are pauses, up to the longest."""
    circuit, waits, states = Circuit(), [], []
    for _ in range(7):
        circuit = circuit.begun().failed(1_000, 1.0, PACE)
        assert circuit.retry_ms is not None
        waits.append(circuit.retry_ms - 1_000)
        states.append(circuit.state)
    assert waits == [100, 200, 10_000, 20_000, 40_000, 40_000, 40_000]
    assert states == [CLOSED, CLOSED, OPEN, OPEN, OPEN, OPEN, OPEN]
    assert circuit.failures == 7


def test_an_open_circuit_is_half_open_while_it_tries() -> None:
    """After the pause one try is made, and its failure opens the circuit again."""
    circuit = Circuit()
    for _ in range(3):
        circuit = circuit.failed(0, 0.0, PACE)
    assert not circuit.allows(4_999)
    assert circuit.allows(5_000)
    assert circuit.begun().state == HALF_OPEN
    assert circuit.begun().failed(5_000, 0.0, PACE).state == OPEN


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True), st.integers(0, 10**12))
def test_noise_keeps_waits_within_bounds(failures: int, noise: float, now_ms: int) -> None:
    """A wait is at least half of what it could be, and never above the longest pause."""
    circuit = Circuit()
    for _ in range(failures):
        circuit = circuit.failed(now_ms, noise, Pace())
    assert circuit.retry_ms is not None
    wait = circuit.retry_ms - now_ms
    assert Pace().retry_ms_min // 2 <= wait <= Pace().pause_ms_max


@pytest.mark.parametrize("noise", [0.0, 0.999])
def test_short_waits_never_exceed_the_pause(noise: float) -> None:
    """A circuit that seldom opens still waits at most one pause between tries."""
    pace = Pace(retry_ms_min=100, failures_max=100, pause_ms_min=1_000, pause_ms_max=2_000)
    circuit = Circuit(failures=50).failed(0, noise, pace)
    assert circuit.retry_ms is not None
    assert 500 <= circuit.retry_ms <= 1_000
