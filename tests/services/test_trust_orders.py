"""Under every policy the view is a function of the events: no order of arrival, no way of
reading, and no change of policy on the way makes a difference."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from grit.core.events import Event
from grit.core.ids import EventId, IssueId
from grit.core.trust import Policy
from grit.services.refresh import rebuild, refresh
from grit.services.workspace import Workspace
from grit.view import keys
from grit.view.database import Database
from grit.view.rows import scan
from tests.services.clinic import Patient
from tests.services.people import Person, forged, judge, stripped
from tests.view import naive

ISSUES = tuple(IssueId(bytes((n,)) * 16) for n in (1, 2, 3))
TABLES = (
    keys.ACTOR, keys.COUNT, keys.DEPENDENT, keys.INDEX, keys.ISSUE, keys.DOUBT,
)  # fmt: skip


class Case:
    """Copies of events in the order in which they arrive, and what policies may name."""

    def __init__(self, deliveries: list[list[Event]], chain: list[EventId]) -> None:
        self.deliveries = deliveries
        self.chain = chain
        self.people = [Person("ann"), Person("bob"), Person("eve")]

    def __repr__(self) -> str:
        return f"Case({[len(one) for one in self.deliveries]})"

    def policies(self) -> list[Policy]:
        ann, bob, eve = (person.actor_id for person in self.people)
        ends = tuple(sorted(self.chain[len(self.chain) // 2 :][:1]))
        return [
            Policy("require"),
            Policy("warn", tuple(sorted((ann, bob))), ((eve, ends),)),
            Policy("require", tuple(sorted((ann, eve))), ((eve, ends),)),
            Policy(),
        ]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    people = [Person("ann"), Person("bob"), Person("eve")]
    copies: list[Event] = []
    chain: list[EventId] = []
    for person in people:
        if draw(st.integers(0, 3)):
            announcement = person.announce(draw(st.sampled_from(("x", "y"))))
            copies += draw(
                st.sampled_from(
                    (
                        [announcement],
                        [stripped(announcement)],
                        [stripped(announcement), announcement],
                    )
                )
            )
    for _ in range(draw(st.integers(1, 14))):
        person = draw(st.sampled_from(people))
        tag, payload = draw(
            st.sampled_from(
                (
                    (1, ("title", "body", ())),
                    (1, ("other", "", ("bug",))),
                    (2, ("new", None)),
                    (3, ("words",)),
                    (4, ("bug",)),
                    (6, ("closed",)),
                    (777, ("odd",)),
                    (11, (bytes(ISSUES[0]), "blocks")),
                    (104, ("gone",)),
                )
            )
        )
        ts, issue = draw(st.integers(1_000, 1_006)), draw(st.sampled_from(ISSUES))
        event = person.write(tag, *payload, ts=ts, issue=issue)
        if person.name == "eve":
            chain.append(event.event_id)
        wrong = forged(event, people[0] if person.name != "ann" else people[1])
        copies += draw(
            st.sampled_from(
                ([event], [event], [stripped(event)], [wrong], [wrong, event, stripped(event)])
            )
        )
    order = draw(st.permutations(copies))
    deliveries: list[list[Event]] = []
    for copy in order:
        if not deliveries or draw(st.booleans()):
            deliveries.append([])
        deliveries[-1].append(copy)
    return Case(deliveries, chain)


def write_policy(patient: Patient, policy: Policy) -> None:
    def ids(values: tuple[bytes, ...]) -> str:
        return "[" + ", ".join(f'"{value.hex()}"' for value in values) + "]"

    text = f'verify = "{policy.verify}"\ntrusted = {ids(policy.allowed)}\n\n[revoked]\n'
    text += "".join(f"{actor_id.hex()} = {ids(ends)}\n" for actor_id, ends in policy.revoked)
    (patient.git_dir / "grit").mkdir(exist_ok=True)
    path = patient.git_dir / "grit/config.toml"
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def rows(database: Database) -> dict[bytes, bytes]:
    """Return every row that says what counts; numbers of events depend on their arrival."""
    with database.reading() as txn:
        found = {key: value for table in TABLES for key, value in scan(txn, table)}
        found.update((key, b"") for key, _ in scan(txn, keys.ORDER))
        found.update((key, value[8:]) for key, value in scan(txn, keys.HELD))
    return found


def check(patient: Patient, workspace: Workspace, arrived: list[Event], policy: Policy) -> None:
    reader = refresh(workspace)
    verdict = judge(arrived, policy)
    model = naive.Model(verdict.counted)
    assert list(reader.all_rows()) == model.summaries()
    assert {event.event_id: why for event, why in reader.held()} == verdict.held
    assert reader.stats().event_count == len({event.event_id for event in arrived})
    for issue_id in ISSUES:
        assert [e.event_id for e in reader.events_of(issue_id)] == [
            e.event_id for e in verdict.counted if e.issue_id == issue_id
        ]
    for fresh in (False, True):
        # With what was verified before, and without it.
        if fresh:
            (patient.git_dir / "grit/verified").unlink(missing_ok=True)
        other = patient.workspace()
        other.use_database(Database.temporary())
        rebuild(other)
        assert rows(other.database) == rows(workspace.database)
        shutil.rmtree(other.database.directory)
        other.close()


@settings(max_examples=25, phases=[Phase.generate])
@given(cases(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_and_any_policy(case: Case, random: "object") -> None:
    """Read bit by bit or at once, verified before or not, the same events count."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["git", "init", "-q", name], check=True)
        patient = Patient(Path(name))
        policies = case.policies()
        random.shuffle(policies)  # type: ignore[attr-defined]
        write_policy(patient, policies[0])
        workspace = patient.workspace()
        arrived: list[Event] = []
        for delivery in case.deliveries:
            patient.append(*delivery)
            arrived += delivery
            if random.random() < 0.6:  # type: ignore[attr-defined]
                refresh(workspace)
        for policy in (*policies, policies[0]):
            write_policy(patient, policy)
            check(patient, workspace, arrived, policy)
        workspace.close()
