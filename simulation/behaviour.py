"""Simulates what users do on one day.

All sessions of a day are played at once, round by round: the app shows ten contents, the user starts one or none,
abandons or completes it, and goes on or leaves. A day depends on the seed and its date only, so that a longer history
begins with the bytes of a shorter one.
"""

from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta

import numpy as np

from simulation.catalogue import CATEGORIES, Catalogue
from simulation.population import Population
from simulation.preference import (
    NO_TOPIC,
    OUTSIDE,
    Context,
    bounce_probability,
    success_probability,
    utility,
)
from simulation.topics import TOPICS
from stillpoint.clock import HOUR, MINUTE, SECOND, to_micros
from stillpoint.events.types import Category, EventType
from stillpoint.messages import Kind

SHOWN = 10
ROUNDS = 5
TYPES = tuple(EventType)
KINDS = (Kind.TODAY, Kind.SLEEP)
QUERIES = tuple(query for topic in TOPICS for query in topic.queries)
SCREENS = ("home", "library", "profile", "downloads", "settings")
NOTHING = -1
_SLEEP, _MUSIC = CATEGORIES.index(Category.SLEEP), CATEGORIES.index(Category.MUSIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """Actions as arrays of equal length; -1 or NaN means none. `list_row` is a row of the day's lists."""

    time_us: np.ndarray
    user: np.ndarray
    type: np.ndarray
    session: np.ndarray
    content: np.ndarray
    play: np.ndarray
    position: np.ndarray
    heart_rate: np.ndarray
    steps: np.ndarray
    text: np.ndarray
    list_row: np.ndarray
    recommendation: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLists:
    """Shown lists, one row per impression: contents (n, 10), kind, and each content's true probability of success.

    `user` and the fields of a `Context` say whose and when, as the simulator knows it; no event holds them.
    """

    recommendation: np.ndarray
    kind: np.ndarray
    items: np.ndarray
    truth: np.ndarray
    user: np.ndarray
    topic: np.ndarray
    rising: np.ndarray
    sleep_bounces: np.ndarray
    evening: np.ndarray
    restless: np.ndarray

    def context(self, rows: np.ndarray) -> Context:
        """Return the context of some lists."""
        return Context(**{field.name: getattr(self, field.name)[rows] for field in fields(Context)})


class _Notes:
    """Collects actions; columns that are not given are empty."""

    def __init__(self) -> None:
        self._parts: list[dict[str, np.ndarray]] = []

    def add(
        self, type: EventType, time_us: np.ndarray, user: np.ndarray, session: np.ndarray, **more: np.ndarray
    ) -> None:
        self._parts.append(
            {"time_us": time_us, "user": user, "session": session, "type": np.full(len(user), TYPES.index(type))} | more
        )

    def actions(self) -> Actions:
        columns = {}
        for field in fields(Actions):
            empty = np.nan if field.name in ("position", "heart_rate") else NOTHING
            columns[field.name] = np.concatenate(
                [part.get(field.name, np.full(len(part["user"]), empty)) for part in self._parts]
            )
        order = np.lexsort((np.arange(len(columns["user"])), columns["time_us"], columns["user"]))
        return Actions(**{name: values[order] for name, values in columns.items()})


def simulate_day(
    population: Population, catalogue: Catalogue, day: date, *, seed: int, context_effect: bool
) -> tuple[Actions, ShownLists]:
    """Return what all users did on a day of their own time zone, ordered by user and time, and what was shown to them."""
    rng = np.random.default_rng([seed, 3, day.toordinal()])
    midnight = to_micros(datetime.fromisoformat(f"{day}T00:00:00+00:00"))
    user, start, hour = _sessions(rng, population, midnight)
    count = len(user)
    session = np.arange(count)
    notes = _Notes()
    evening = hour > 20.5
    chance = rng.random((count, 6))
    searching = chance[:, 0] < 0.3
    rising = ~searching & (chance[:, 1] < 0.35) & population.has_watch[user] & ~evening
    restless = evening & (chance[:, 2] < 0.5) & ~searching
    topic = np.where(searching, rng.integers(0, len(TOPICS), count), NO_TOPIC)
    _biometrics(rng, notes, population, user, session, start, rising)
    notes.add(EventType.LOGIN, start, user, session)
    clock = start + (rng.uniform(1, 6, count) * SECOND).astype(np.int64)
    renewing = chance[:, 3] < 0.01
    notes.add(EventType.SUBSCRIPTION_RENEWED, clock[renewing], user[renewing], session[renewing])
    clock += (rng.uniform(2, 15, count) * SECOND).astype(np.int64)
    first_query = np.cumsum([0, *(len(one.queries) for one in TOPICS)])
    lengths = np.array([len(one.queries) for one in TOPICS])
    query = first_query[topic] + (rng.random(count) * lengths[topic]).astype(np.int64)
    notes.add(EventType.SEARCH, clock[searching], user[searching], session[searching], text=query[searching])
    alive, sleep_bounces = np.ones(count, dtype=bool), np.zeros(count, dtype=np.int64)
    lists: list[ShownLists] = []
    shown_before = 0
    for number in range(ROUNDS):
        now = np.flatnonzero(alive)
        if not len(now):
            break
        clock[now] += (rng.uniform(2, 20, len(now)) * SECOND).astype(np.int64)
        who, moment = user[now], clock[now]
        context = Context(
            topic=topic[now],
            rising=rising[now] & (moment - start[now] < 6 * MINUTE),
            sleep_bounces=sleep_bounces[now],
            evening=evening[now],
            restless=restless[now],
        )
        kind = (evening[now] & (rng.random(len(now)) < np.where(restless[now], 0.6, 0.4))).astype(np.int64)
        items = _shown(rng, population, catalogue, who, moment, kind)
        wanted = utility(population, catalogue, who, items, context, effect=context_effect)
        bounce = bounce_probability(catalogue, items, wanted, context, effect=context_effect)
        unique = day.toordinal() * 10_000_000 + session[now] * ROUNDS + number
        rows = shown_before + np.arange(len(now))
        shown_before += len(now)
        lists.append(
            ShownLists(
                recommendation=unique,
                kind=kind,
                items=items,
                truth=success_probability(wanted, bounce),
                user=who,
                **{field.name: getattr(context, field.name) for field in fields(Context)},
            )
        )
        notes.add(EventType.IMPRESSION, moment, who, now, list_row=rows, recommendation=unique)
        pull = wanted - 0.1 * np.arange(SHOWN) + rng.gumbel(size=wanted.shape)
        place = pull.argmax(axis=1)
        started = pull.max(axis=1) > OUTSIDE + rng.gumbel(size=len(now))
        chosen, wants = items[np.arange(len(now)), place], wanted[np.arange(len(now)), place]
        bounced = started & (rng.random(len(now)) < bounce[np.arange(len(now)), place])
        end, complete = _plays(rng, notes, catalogue, now, who, moment, chosen, wants, started, bounced, unique)
        idle = ~started
        browsing = idle & (rng.random(len(now)) < 0.6)
        notes.add(
            EventType.NAVIGATION,
            moment[browsing] + 10 * SECOND,
            who[browsing],
            now[browsing],
            text=rng.integers(0, len(SCREENS), int(browsing.sum())),
        )
        sleep_bounces[now] += bounced & (catalogue.category[chosen] == _SLEEP)
        long_play = started & ~bounced & (end - moment > 24 * MINUTE)
        goes_on = rng.random(len(now)) < np.where(bounced, 0.92, np.where(idle, 0.55, np.where(complete, 0.35, 0.25)))
        clock[now] = np.where(started, end, moment + 20 * SECOND)
        alive[now] = goes_on & ~long_play
    shown = (
        ShownLists(
            **{field.name: np.concatenate([getattr(one, field.name) for one in lists]) for field in fields(ShownLists)}
        )
        if lists
        else ShownLists(
            recommendation=session,
            kind=session,
            items=np.empty((0, SHOWN), int),
            truth=np.empty((0, SHOWN)),
            user=session,
            topic=session,
            rising=session.astype(bool),
            sleep_bounces=session,
            evening=session.astype(bool),
            restless=session.astype(bool),
        )
    )
    return notes.actions(), shown


def days_of(start: date, count: int) -> list[date]:
    """Return `count` days from `start`."""
    return [start + timedelta(days=number) for number in range(count)]


def _sessions(
    rng: np.random.Generator, population: Population, midnight: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user, start and local hour of the day's sessions, ordered by user and start, at least 2.5 hours apart."""
    joined = population.signed_up_us < midnight
    counts = np.where(joined, np.minimum(rng.poisson(population.sessions_per_day), 4), 0)
    user = np.repeat(np.arange(len(population)), counts)
    at_night = rng.random(len(user)) < population.evening_share[user]
    by_day = np.where(rng.random(len(user)) < 0.5, rng.normal(7.8, 1.0, len(user)), rng.normal(14, 3.0, len(user)))
    hour = np.clip(np.where(at_night, rng.normal(21.9, 0.7, len(user)), by_day), 5.6, 23.4)
    order = np.lexsort((hour, user))
    user, hour = user[order], hour[order]
    apart = np.ones(len(user), dtype=bool)
    apart[1:] = (user[1:] != user[:-1]) | (np.diff(hour) > 2.5)
    user, hour = user[apart], hour[apart]
    return user, midnight - population.utc_offset_us[user] + (hour * HOUR).astype(np.int64), hour


def _shown(
    rng: np.random.Generator,
    population: Population,
    catalogue: Catalogue,
    user: np.ndarray,
    moment: np.ndarray,
    kind: np.ndarray,
) -> np.ndarray:
    """Return the contents that the app's old policy shows: a blend of popularity, lasting taste and chance.

    The policy ignores the context, and gives every published content a chance, so that training data cover all contents.
    """
    liked = np.exp(population.taste[user])
    liked /= liked.sum(axis=1, keepdims=True)
    weight = 0.35 * catalogue.popularity + 0.25 * liked[:, catalogue.category] / len(catalogue) * len(CATEGORIES)
    weight += 0.4 / len(catalogue)
    for_night = np.isin(catalogue.category, (_SLEEP, _MUSIC))
    hidden = (catalogue.published_us > moment[:, None]) | ((kind[:, None] == 1) & ~for_night)
    keys = rng.standard_exponential(weight.shape) / np.where(hidden, 1e-12, weight)
    chosen = np.argpartition(keys, SHOWN, axis=1)[:, :SHOWN]
    return np.asarray(np.take_along_axis(chosen, np.take_along_axis(keys, chosen, axis=1).argsort(axis=1), axis=1))


def _plays(
    rng: np.random.Generator,
    notes: _Notes,
    catalogue: Catalogue,
    session: np.ndarray,
    user: np.ndarray,
    moment: np.ndarray,
    content: np.ndarray,
    wants: np.ndarray,
    started: np.ndarray,
    bounced: np.ndarray,
    unique: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Record starts, pauses, exits and completions; return when each play ended and whether it was completed."""
    begin = moment + (rng.uniform(3, 25, len(user)) * SECOND).astype(np.int64)
    length = catalogue.duration_seconds[content].astype(np.float64)
    complete = started & ~bounced & (rng.random(len(user)) < 1 / (1 + np.exp(-0.5 - 0.6 * wants)))
    left = np.where(bounced, rng.uniform(4, 57, len(user)), rng.uniform(70, np.maximum(length, 90), len(user)))
    position = np.round(np.where(complete, length, left), 1)
    end = begin + (position * SECOND).astype(np.int64)

    def note(type: EventType, which: np.ndarray, time_us: np.ndarray, **more: np.ndarray) -> None:
        given = {name: values[which] for name, values in more.items()}
        notes.add(
            type, time_us[which], user[which], session[which], content=content[which], play=unique[which], **given
        )

    note(EventType.CONTENT_START, started, begin, recommendation=unique)
    paused = started & ~bounced & (rng.random(len(user)) < 0.06)
    note(EventType.CONTENT_PAUSE, paused, begin + 40 * SECOND, position=np.full(len(user), 40.0))
    note(EventType.CONTENT_EXIT, started & ~complete, end, position=position)
    note(EventType.CONTENT_COMPLETE, complete, end, position=position)
    return end, complete


def _biometrics(
    rng: np.random.Generator,
    notes: _Notes,
    population: Population,
    user: np.ndarray,
    session: np.ndarray,
    start: np.ndarray,
    rising: np.ndarray,
) -> None:
    """Record what watches measure around a session: each minute while exertion rises, each third minute at rest."""
    for which, minutes in ((rising, range(-10, 7)), (~rising & population.has_watch[user], range(-9, 7, 3))):
        who, times = user[which], start[which]
        for minute in minutes:
            noise = rng.normal(0, 1, len(who))
            if which is rising:
                pulse, steps = 72 + 3.5 * (minute + 10) + 2 * noise, rng.poisson(10 + 8 * (minute + 10), len(who))
            else:
                pulse, steps = 66 + 2.5 * noise, rng.poisson(4, len(who))
            notes.add(
                EventType.BIOMETRIC,
                times + minute * MINUTE - 5 * SECOND + rng.integers(0, SECOND, len(who)),
                who,
                session[which],
                heart_rate=np.round(pulse, 1),
                steps=steps,
            )
