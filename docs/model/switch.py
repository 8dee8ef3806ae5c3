"""The release protocol as a model: two operators, a service process, a Lambda, two colours, one pointer.

A release stands for its mapping too: release 2's features are rows of mapping 2, and its model fits those alone. Each step
below is one effect on what others can see; `docs/model/README.md` maps the steps to the code. `Rules` turns single rules of
the protocol off, for the mutants that the checker must find.
"""

from collections.abc import Iterator
from typing import NamedTuple

GREEN, BLUE = 0, 1
PREPARING, READY, LIVE, TARGET, GONE = "preparing", "ready", "live", "rollback target", "gone"
MOST_RELEASES = 3


class Rules(NamedTuple):
    """The protocol's rules, each of which can be left out."""

    single_reference: bool = True
    """A request takes the release once, and everything in the answer is that release's."""
    leases: bool = True
    """One verb at a time; a holder that lost the lease does nothing any more."""
    waits: bool = True
    """A colour is emptied only when no listed process answers from it."""
    prompt: bool = True
    """What the model assumes: a step that has checked the lease takes effect before the lease can pass to another."""
    nonce: bool = True
    """After a lost answer the generation is read back and compared."""
    marker: bool = True
    """The fill marker is read with the features; when it is not the model's, nothing is predicted."""
    conditional_store: bool = True
    """A Lambda stores only while the generation that it read is the live one."""


class Operator(NamedTuple):
    """Somebody at a verb. `after` is the number of generations that it saw."""

    verb: str = ""
    release: int = 0
    at: str = ""
    after: int = 0
    killed: str = ""
    """The verb that was killed and is to be run again."""


class Request(NamedTuple):
    """A prediction under way: the release whose model it uses, the one that it is stamped with, and the rows it read."""

    generation: int
    model: int
    rows: int = -1
    marker: int = -1
    features: int = 0


class Process(NamedTuple):
    """A service process. `listed` is what others see of it: (release, loaded release), None once its beat expired."""

    generation: int = 1
    loaded: int = 0
    listed: tuple[int, int] | None = (1, 0)
    request: Request | None = None
    alive: bool = True


class World(NamedTuple):
    """Everything that the protocol touches. Colours and notes are by place; releases count from 1."""

    pointer: tuple[int, ...] = (1,)
    rolled_back: bool = False
    """Whether the newest generation was made by a rollback."""
    colours: tuple[int, ...] = (GREEN, BLUE)
    notes: tuple[str, ...] = (LIVE, READY)
    filled: tuple[str, ...] = ("complete", "complete")
    rows: tuple[int, int] = (1, 2)
    marker: tuple[int, int] = (1, 2)
    lease: int = -1
    announced: tuple[int, int] | None = None
    operators: tuple[Operator, ...] = (Operator(), Operator())
    process: Process = Process()
    frozen: Request | None = None
    """The Lambda's invocation; it may freeze between any two steps."""
    service: bool = True
    function: bool = True
    verbs: int = 3
    kills: int = 1
    expiries: int = 1
    lost: int = 1
    fault: str = ""

    @property
    def live(self) -> int:
        return self.pointer[-1]

    def colour(self, release: int) -> int:
        return self.colours[release - 1]

    def note(self, release: int) -> str:
        return self.notes[release - 1]


START = World()
WHOLE = Rules()


def broken(world: World) -> str | None:
    """Return the rule that a state breaks."""
    return world.fault or None


def at_rest(world: World) -> bool:
    """Say whether nothing is under way, and what is live can be served."""
    return (
        world.lease < 0
        and (world.announced is None or world.announced[0] <= len(world.pointer))
        and all(not one.verb and not one.killed for one in world.operators)
        and PREPARING not in world.notes
        and world.note(world.live) == LIVE
        and world.rows[world.colour(world.live)] == world.live == world.marker[world.colour(world.live)]
    )


def steps(world: World, rules: Rules = WHOLE) -> Iterator[tuple[str, World]]:
    """Yield every step that is possible now, with its name."""
    for index, operator in enumerate(world.operators):
        who = "AB"[index]
        for name, after in _operator(world, rules, index, operator):
            yield f"{who}: {name}", after
    if world.service:
        yield from _process(world, rules)
    if world.function:
        yield from _lambda(world, rules)


# --- operators ------------------------------------------------------------------------------------------------------


def _operator(world: World, rules: Rules, index: int, operator: Operator) -> Iterator[tuple[str, World]]:
    if not operator.verb:
        yield from _begin(world, rules, index, operator)
        if world.lease == index:
            yield "its lease expires", world._replace(lease=-1)
        return
    if world.kills:
        again = f"{operator.verb} {operator.release}"
        dead = world._replace(kills=world.kills - 1)
        yield "is killed", _put(dead, index, Operator(killed=again))
    if world.lease == index and rules.leases and world.expiries:
        yield "hangs, and its lease expires", world._replace(lease=-1, expiries=world.expiries - 1)
    yield from VERBS[operator.verb](world, rules, index, operator)


def _begin(world: World, rules: Rules, index: int, operator: Operator) -> Iterator[tuple[str, World]]:
    if rules.leases and world.lease >= 0:
        return
    wanted = []
    if operator.killed:
        verb, _, release = operator.killed.partition(" ")
        wanted.append((verb, int(release), world.verbs))
    elif world.verbs:
        left = world.verbs - 1
        wanted += [("switch", release, left) for release in _releases(world) if world.note(release) == READY]
        wanted += [("rollback", 0, left), ("prepare", 0, left)]
        wanted += [("retire", release, left) for release in _releases(world) if world.note(release) in (READY, TARGET)]
    for verb, release, left in wanted:
        begun = _settled(world._replace(lease=index if rules.leases else -1, verbs=left))
        operator_now = Operator(verb=verb, release=release, at="begin", after=len(begun.pointer))
        yield f"runs {verb}{f' r{release}' if release else ''}", _put(begun, index, operator_now)


def _settled(world: World) -> World:
    """Make the notes agree with the pointer, and withdraw what a killed verb announced (`release.states.settle`)."""
    notes = list(world.notes)
    for release in _releases(world):
        if release != world.live and notes[release - 1] == LIVE:
            notes[release - 1] = READY if world.rolled_back else TARGET
    if notes[world.live - 1] != LIVE:
        notes[world.live - 1] = LIVE
    left = world.announced is not None and world.announced[0] > len(world.pointer)
    return world._replace(notes=tuple(notes), announced=None if left else world.announced)


def _releases(world: World) -> range:
    return range(1, len(world.notes) + 1)


def _put(world: World, index: int, operator: Operator) -> World:
    operators = list(world.operators)
    operators[index] = operator
    return world._replace(operators=tuple(operators))


def _to(world: World, index: int, at: str, **changes: object) -> World:
    return _put(world, index, world.operators[index]._replace(at=at, **changes))


def _end(world: World, index: int) -> World:
    ended = _put(world, index, Operator())
    return ended._replace(lease=-1 if ended.lease == index else ended.lease)


def _stop(world: World, index: int) -> World:
    """End a verb short of its end; it is run again."""
    operator = world.operators[index]
    return _put(_end(world, index), index, Operator(killed=f"{operator.verb} {operator.release}"))


def _fenced(world: World, rules: Rules, index: int) -> bool:
    return rules.leases and world.lease != index


def _switch(world: World, rules: Rules, index: int, operator: Operator) -> Iterator[tuple[str, World]]:
    release, generation = operator.release, operator.after + 1
    if operator.at == "begin":
        if operator.verb == "rollback":
            targets = [one for one in _releases(world) if world.note(one) == TARGET]
            if not targets:
                if world.announced is not None and world.announced[0] == len(world.pointer):
                    yield "finishes what was killed", _to(world, index, "acknowledged", release=world.live)
                else:
                    yield "is refused", _end(world, index)
                return
            yield "finds the target", _to(world, index, "announce", release=targets[-1])
        elif release == world.live:
            yield "finishes what was killed", _to(world, index, "acknowledged")
        elif world.note(release) != READY or world.colour(release) == world.colour(world.live):
            yield "is refused", _end(world, index)
        else:
            yield "may switch", _to(world, index, "announce")
    elif operator.at == "announce":
        yield (
            f"announces r{release}",
            _to(world, index, "wait", after=operator.after)._replace(announced=(generation, release)),
        )
    elif operator.at == "wait":
        listed = world.process.listed
        if listed is None or release in listed:
            yield "sees that all have loaded", _to(world, index, "create")
        else:
            yield "gives up waiting", _end(world._replace(announced=None), index)
    elif operator.at in ("create", "checked"):
        yield from _create(world, rules, index, operator)
    elif operator.at == "read back":
        if rules.nonce:
            yield "reads its own nonce", _to(world, index, "acknowledged")
        else:
            yield "takes its own generation for another's", _misjudged(world, index)
    elif operator.at == "acknowledged":
        yield "writes the notes", _to(_settled(world), index, "withdraw")
    elif operator.at == "withdraw":
        done = _end(world._replace(announced=None), index)
        yield "withdraws the announcement, done", done


def _create(world: World, rules: Rules, index: int, operator: Operator) -> Iterator[tuple[str, World]]:
    if operator.at == "create" and _fenced(world, rules, index):
        yield "is fenced off", _stop(world, index)
    elif operator.at == "create" and not rules.prompt:
        yield "checks the lease", _to(world, index, "checked")
    elif len(world.pointer) > operator.after:
        yield "finds the generation taken", _end(world, index)
    else:
        made = world._replace(pointer=(*world.pointer, operator.release), rolled_back=operator.verb == "rollback")
        if made.rows[made.colour(made.live)] != made.live:
            made = made._replace(fault="a release goes live without its features")
        yield f"creates generation {len(made.pointer)} for r{operator.release}", _to(made, index, "acknowledged")
        if world.lost:
            yield "creates it, and the answer is lost", _to(made._replace(lost=world.lost - 1), index, "read back")


def _misjudged(world: World, index: int) -> World:
    return _end(world._replace(fault="a verb says that it changed nothing, and it did"), index)


def _retire(world: World, rules: Rules, index: int, operator: Operator) -> Iterator[tuple[str, World]]:
    release = operator.release
    colour = world.colour(release)
    if operator.at == "begin":
        if world.live == release:
            yield "is refused", _end(world, index)
        elif _fenced(world, rules, index):
            yield "is fenced off", _stop(world, index)
        else:
            yield f"notes r{release} as gone", _to(_noted(world, release, GONE), index, "used")
    elif operator.at == "used":
        if any(world.colour(one) == colour and world.note(one) != GONE for one in _releases(world)):
            yield "leaves the colour to others, done", _end(world, index)
        else:
            yield from _empty_when_unused(world, rules, index, colour, "emptied")
    elif operator.at == "emptied":
        yield "done", _end(world, index)


def _prepare(world: World, rules: Rules, index: int, operator: Operator) -> Iterator[tuple[str, World]]:
    release = operator.release
    if operator.at == "begin":
        if _fenced(world, rules, index):
            yield "is fenced off", _stop(world, index)
            return
        aim = 1 - world.colour(world.live)
        holding = [one for one in _releases(world) if world.colour(one) == aim and world.note(one) != GONE]
        if any(world.note(one) == TARGET for one in holding):
            yield "is refused", _end(world, index)
            return
        same = [one for one in holding if world.note(one) == PREPARING]
        if same:
            at = "used" if world.filled[same[0] - 1] == "" else "filled"
            yield f"takes r{same[0]} up again", _to(world, index, at, release=same[0])
            return
        if len(world.notes) == MOST_RELEASES:
            yield "is refused", _end(world, index)
            return
        for one in holding:
            world = _noted(world, one, GONE)
        claimed = world._replace(
            notes=(*world.notes, PREPARING), colours=(*world.colours, aim), filled=(*world.filled, "")
        )
        yield f"claims r{len(claimed.notes)}", _to(claimed, index, "used", release=len(claimed.notes))
    elif operator.at == "used":
        yield from _empty_when_unused(world, rules, index, world.colour(release), "emptied")
    elif operator.at == "emptied":
        yield "notes the barrier", _to(_fill(world, release, "emptied"), index, "filled")
    elif operator.at == "filled":
        if _fenced(world, rules, index):
            yield "is fenced off", _stop(world, index)
        else:
            rows = _at(world.rows, world.colour(release), release)
            yield f"fills r{release}", _to(world._replace(rows=rows), index, "mark")
    elif operator.at == "mark":
        if _fenced(world, rules, index):
            yield "is fenced off", _stop(world, index)
        else:
            marker = _at(world.marker, world.colour(release), release)
            yield "marks it complete", _to(_fill(world, release, "complete")._replace(marker=marker), index, "note")
    elif operator.at == "note":
        if world.note(release) == PREPARING:
            yield f"notes r{release} as ready, done", _end(_noted(world, release, READY), index)
        else:
            yield "is refused, since the note has changed", _end(world, index)


def _empty_when_unused(world: World, rules: Rules, index: int, colour: int, then: str) -> Iterator[tuple[str, World]]:
    listed = world.process.listed
    used = listed is not None and world.colour(listed[0]) == colour
    if used and rules.waits:
        yield "gives up waiting", _stop(world, index)
    elif _fenced(world, rules, index):
        yield "is fenced off", _stop(world, index)
    else:
        emptied = world._replace(rows=_at(world.rows, colour, 0), marker=_at(world.marker, colour, 0))
        if used or world.colour(world.live) == colour:
            emptied = emptied._replace(fault="a served colour is emptied")
        yield f"empties {'green' if colour == GREEN else 'blue'}", _to(emptied, index, then)


def _noted(world: World, release: int, note: str) -> World:
    return world._replace(notes=_at(world.notes, release - 1, note))


def _fill(world: World, release: int, how: str) -> World:
    return world._replace(filled=_at(world.filled, release - 1, how))


def _at(values: tuple, place: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*values[:place], value, *values[place + 1 :])


VERBS = {"switch": _switch, "rollback": _switch, "retire": _retire, "prepare": _prepare}


# --- who answers ----------------------------------------------------------------------------------------------------


def _process(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    process = world.process
    if not process.alive:
        started = Process(generation=len(world.pointer), listed=(world.live, 0))
        yield "service: starts again", world._replace(process=started)
        return
    loaded = world.announced[1] if world.announced and world.announced[0] == len(world.pointer) + 1 else 0
    followed = process._replace(generation=len(world.pointer), loaded=loaded, listed=(world.live, loaded))
    if followed != process:
        yield "service: reads the book, swaps, loads, beats", world._replace(process=followed)
    if world.expiries and process.listed is not None:
        quiet = world._replace(process=process._replace(listed=None), expiries=world.expiries - 1)
        yield "service: freezes, and its beat expires", quiet
    if world.kills:
        yield "service: dies", world._replace(process=Process(alive=False, listed=None), kills=world.kills - 1)
    for name, request, changed in _request(world, rules, process.request, process.generation):
        yield f"service: {name}", changed._replace(process=process._replace(request=request))


def _lambda(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    generation = world.frozen.generation if world.frozen else len(world.pointer)
    for name, request, changed in _request(world, rules, world.frozen, generation):
        if name.startswith("answers") and rules.conditional_store and generation != len(world.pointer):
            yield "lambda: stores nothing, since the generation has ended", world._replace(frozen=None)
        elif name.startswith("answers") and generation != len(world.pointer):
            yield "lambda: stores", changed._replace(frozen=None, fault="a list of an ended generation is stored")
        else:
            yield f"lambda: {name}", changed._replace(frozen=request)


def _request(
    world: World, rules: Rules, request: Request | None, generation: int
) -> Iterator[tuple[str, Request | None, World]]:
    if request is None:
        release = world.pointer[generation - 1]
        yield f"takes a request under r{release}", Request(generation, release), world
    elif request.rows < 0:
        features = request.model if rules.single_reference else world.pointer[generation - 1]
        colour = world.colour(features)
        read = request._replace(rows=world.rows[colour], marker=world.marker[colour], features=features)
        yield "reads features and fill marker", read, world
    else:
        fits = request.rows == request.model == request.marker
        if request.features != request.model:
            yield "answers", None, world._replace(fault="an answer mixes two releases")
        elif rules.marker and not fits:
            yield "answers with a fallback, since the marker is not the model's", None, world
        elif request.rows not in (request.model, 0):
            yield "answers", None, world._replace(fault="an answer is made from another mapping's rows")
        else:
            yield "answers", None, world
