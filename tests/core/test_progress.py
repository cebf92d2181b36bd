"""Progress: whoever does not want to hear of it gives the silent reporter."""

from grit.core.progress import ProgressReporter, SilentProgress


def test_the_silent_reporter_takes_everything_and_says_nothing() -> None:
    """Any order of calls is harmless."""
    silent: ProgressReporter = SilentProgress()
    silent.done()
    silent.start("reading", 3)
    silent.advance()
    silent.advance(2)
    silent.start("writing")
    silent.done()
    assert vars(silent) == {}
