"""Sentences of stories, in pools: a story takes one sentence from each pool of its plot.

Braces are the slots of `heroes.Slots`. A pool is a text with one or two sentences on each line.
"""

from rxllm.models.tiny.corpus.tables import lines

OPENINGS = lines(
    """
    Once upon a time, {place}, there lived {first}{named}.
    Once, {place}, there {were} {first}{named}.
    There once {were} {first}{named}, who lived {place}.
    Long ago, {place}, lived {first}{named}.
    {Place}, not so long ago, there lived {first}{named}.
    This is the story of {first}{named}, who lived {place}.
    One spring morning, {place}, {first}{named} woke up very early.
    """
)
MOODS = lines(
    """
    Most days were quiet there, and nothing much ever happened.
    Everyone in the neighbourhood liked {the}.
    {The} loved mornings, warm bread and long walks.
    Each day began with a cup of tea and a look out of the window.
    {The} had a good heart and a very loud sneeze.
    {Who} knew every stone, every path and every puddle.
    The days were long, and the evenings smelled of apples.
    {The} liked to sit on the old wall and think.
    In the evenings {who} listened to the rain and made plans.
    """
)
WISHES = lines(
    """
    More than anything, {who} wanted to learn to {verb}.
    {Who} had one big dream: to {verb}.
    But every night {who} dreamed of one thing: learning to {verb}.
    One day {who} decided to learn to {verb}.
    There was only one wish in {their} heart: to {verb}.
    """
)
TRIES = lines(
    """
    So {the} tried to {verb}. {First_try}.
    {The} began that very afternoon. {First_try}.
    The next morning {who} tried to {verb} for the first time. {First_try}.
    It did not begin well. {First_try}.
    """
)
DOUBTS = lines(
    """
    {The} sat down on a step and sighed. “Perhaps {I} will never learn to {verb}.”
    “Perhaps it is not for {me},” said {the} quietly.
    {The} felt like giving up, but not before supper.
    “Who ever heard of {first} who could {verb}?” said {the} sadly.
    {The} went home with a heavy heart and very tired feet.
    “One more time,” said {the}, but {their} voice was small.
    """
)
MEETINGS = lines(
    """
    Just then {helper} came down the path and stopped.
    {Helper} had watched it all and came closer.
    That evening {helper} knocked at the door.
    On the way home {who} met {helper}.
    Under the big tree sat {helper}, who smiled and made room.
    """
)
ADVICE = lines(
    """
    “{Advice},” said {the_helper}.
    “I know a secret,” said {the_helper}. “{Advice}.”
    “{Advice},” {the_helper} said softly. “That is all I know, and it is enough.”
    “May I tell you something?” asked {the_helper}. “{Advice}.”
    """
)
PRACTICE = lines(
    """
    So {who} practised every day, in sun and in rain.
    From then on {the} practised each morning before breakfast.
    {Who} tried again the next day, and the day after that, and slowly it became easier.
    Day after day {the} went on, a little better each time.
    Weeks went by. {The} fell down seven times and got up eight.
    """
)
TRIUMPHS = lines(
    """
    Then, one bright morning, {who} {triumph}.
    On the first day of summer {who} {triumph}.
    At the autumn fair, in front of everyone, {who} {triumph}.
    And one evening, when nobody expected it, {who} {triumph}.
    """
)
SKILL_ENDINGS = lines(
    """
    “{I} did it!” cried {the}, and {the_helper} clapped the loudest of all.
    And if you ask {the} today how to {verb}, you will get a smile and a chair to sit on.
    Since that day, everyone who wants to {verb} comes to {the} first, and it always begins with a laugh.
    {The_helper} only nodded, as if it had been clear from the start.
    From that day on, nobody was surprised that {first} could {verb}.
    Mistakes still happen now and then, but they are very happy mistakes.
    """  # noqa: E501
)
