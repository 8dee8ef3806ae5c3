"""The topics of the simulated app: what users need, how they search for it, and the titles of contents for it.

One row per topic: the words of its titles and descriptions, and the queries of a user who needs it. All text is made
here from these words.
"""

from dataclasses import dataclass

from stillpoint.events.types import Category


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic within a category. `minutes` is the range of its contents' durations."""

    name: str
    category: Category
    minutes: tuple[int, int]
    forms: tuple[str, ...]
    subjects: tuple[str, ...]
    purpose: str
    queries: tuple[str, ...]

    @property
    def is_story(self) -> bool:
        """Whether it is a sleep story, the kind that a restless user abandons."""
        return self.name == "sleep story"


TOPICS: tuple[Topic, ...] = (
    Topic(
        name="sleep story",
        category=Category.SLEEP,
        minutes=(26, 44),
        forms=("Sleep Story: {}", "A Bedtime Story of {}", "{}, a Sleep Story", "Bedtime Tale: {}"),
        subjects=(
            "the Night Train",
            "the Lighthouse Keeper",
            "the Sleepy Harbour",
            "a Village in Snow",
            "the Old Bookshop",
            "the Lavender Farm",
            "the Quiet Canal",
            "the Slow River Boat",
            "the Mountain Inn",
            "the Moonlit Garden",
            "the Wool Mill",
            "the Island Ferry",
        ),
        purpose="A slow story told in a low voice, made to be left unfinished",
        queries=("bedtime story", "sleep story for adults", "story to fall asleep", "read me a bedtime tale"),
    ),
    Topic(
        name="sleep wind-down",
        category=Category.SLEEP,
        minutes=(6, 15),
        forms=("{} for Sleep", "Fall Asleep with {}", "{} before Bed", "Drift Off: {}"),
        subjects=(
            "Body Scan",
            "Slow Breathing",
            "Letting Go of the Day",
            "Counting Down",
            "Heavy Limbs",
            "Soft Focus",
            "Muscle Release",
            "Easy Rest",
        ),
        purpose="A short exercise in bed that lets the body fall asleep",
        queries=("can't sleep", "how to fall asleep fast", "insomnia help", "trouble sleeping tonight", "awake at 3am"),
    ),
    Topic(
        name="sleep sounds",
        category=Category.SLEEP,
        minutes=(50, 90),
        forms=("Sleep Sounds: {}", "{} for Deep Sleep", "Night Sounds of {}", "Asleep to {}"),
        subjects=(
            "Steady Rain",
            "Ocean Waves",
            "a Distant Storm",
            "Night Crickets",
            "Wind in the Pines",
            "a Crackling Fire",
            "Brown Noise",
            "a Fan",
        ),
        purpose="Even sound through the night, with nothing to follow",
        queries=("rain sounds for sleeping", "white noise", "ocean waves sleep", "background noise for the night"),
    ),
    Topic(
        name="exam",
        category=Category.FOCUS,
        minutes=(8, 20),
        forms=("{} for Exams", "Exam Preparation: {}", "{} before a Big Test", "Study Time: {}"),
        subjects=(
            "Calm Concentration",
            "Clear Memory",
            "Steady Nerves",
            "Preparing the Mind",
            "Revision without Panic",
            "Confidence",
            "Studying with Ease",
            "Attention",
        ),
        purpose="Concentration for studying and for the day of the exam",
        queries=(
            "preparing for big exam",
            "exam tomorrow",
            "study concentration",
            "final exams",
            "nervous about my test",
            "revision for school exams",
            "focus while studying",
        ),
    ),
    Topic(
        name="work",
        category=Category.FOCUS,
        minutes=(10, 45),
        forms=("{} at Work", "Deep Work: {}", "Focus for {}", "Working Hour: {}"),
        subjects=(
            "Meetings",
            "One Task",
            "a Long Report",
            "Writing",
            "Coding",
            "the Afternoon",
            "an Empty Inbox",
            "Deadlines",
            "Creative Work",
            "Planning",
        ),
        purpose="Attention for one piece of work at a time",
        queries=(
            "focus at work",
            "deep work",
            "deadline concentration",
            "stop procrastinating",
            "be productive",
            "can't concentrate in meetings",
        ),
    ),
    Topic(
        name="walk and run",
        category=Category.MOVE,
        minutes=(10, 35),
        forms=("{} Run", "Guided {} Walk", "Running: {}", "Walk and Breathe: {}"),
        subjects=("Easy", "Morning", "Interval", "Hill", "Five Kilometre", "Evening", "Recovery", "First", "Tempo"),
        purpose="A coach's voice for moving outdoors, step by step",
        queries=("running coach", "guided walk", "going for a run", "jogging for beginners", "walking workout"),
    ),
    Topic(
        name="workout",
        category=Category.MOVE,
        minutes=(7, 30),
        forms=("{} Workout", "{} Training at Home", "Move: {}", "{} Exercise"),
        subjects=("Full Body", "Core Strength", "Legs", "Stretching", "Yoga Flow", "Cardio", "Mobility", "Shoulders"),
        purpose="Exercise without equipment, from warm-up to cool-down",
        queries=("home workout", "stretching exercises", "yoga class", "cardio training", "strength exercise"),
    ),
    Topic(
        name="mindfulness",
        category=Category.MEDITATE,
        minutes=(5, 20),
        forms=("{} Meditation", "Meditating on {}", "Mindfulness: {}", "A Meditation for {}"),
        subjects=(
            "Gratitude",
            "Kindness",
            "Breath",
            "Open Awareness",
            "Patience",
            "Acceptance",
            "Presence",
            "Compassion",
            "Silence",
            "Forgiveness",
        ),
        purpose="Guided meditation, for a few quiet minutes of awareness",
        queries=("gratitude meditation", "mindfulness", "guided meditation", "loving kindness", "mindful breathing"),
    ),
    Topic(
        name="learning to meditate",
        category=Category.MEDITATE,
        minutes=(3, 10),
        forms=("Meditation Basics: {}", "Learn to Meditate: {}", "Beginner's Meditation, {}", "How to Meditate: {}"),
        subjects=(
            "Sitting",
            "Noting Thoughts",
            "Day One",
            "Day Two",
            "Day Three",
            "Posture",
            "Returning",
            "Three Minutes",
        ),
        purpose="Meditation taught from the beginning, a little each day",
        queries=("how to meditate", "meditation for beginners", "learn meditation", "short meditation"),
    ),
    Topic(
        name="anxiety",
        category=Category.STRESS,
        minutes=(4, 15),
        forms=("{} for Anxiety", "Easing Anxiety: {}", "Relief from {}", "When You Feel {}"),
        subjects=("Panic", "Worry", "Overwhelmed", "Racing Thoughts", "Nervousness", "Fear", "Restlessness", "Tension"),
        purpose="Relief when worry and anxiety take over",
        queries=("anxiety relief", "panic attack", "calm my worries", "feeling anxious", "stop overthinking"),
    ),
    Topic(
        name="stress",
        category=Category.STRESS,
        minutes=(4, 18),
        forms=("Letting Go of {}", "Stress Relief: {}", "{} and Stress", "Calm after {}"),
        subjects=("Anger", "a Hard Day", "Burnout", "an Argument", "Pressure", "Frustration", "Grief", "Bad News"),
        purpose="A way out of stress and pressure, with the breath",
        queries=("stress relief", "burned out", "so angry", "relax after a hard day", "too much pressure"),
    ),
    Topic(
        name="music",
        category=Category.MUSIC,
        minutes=(30, 60),
        forms=("{} Music", "{} Playlist", "Songs for {}", "{} Melodies"),
        subjects=(
            "Piano",
            "Ambient",
            "Slow Guitar",
            "Lo-fi",
            "String Quartet",
            "Harp",
            "Quiet Jazz",
            "Evening",
            "Acoustic",
            "Handpan",
        ),
        purpose="Instrumental music without a voice",
        queries=("piano music", "relaxing music", "ambient playlist", "lofi beats", "acoustic guitar songs"),
    ),
)
