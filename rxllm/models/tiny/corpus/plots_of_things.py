"""Sentences of stories about a thing or a theme, and sequels of stories.

Pools as in `plots.py`; `{thing}` is the noun, `{look}` the noun with an adjective ("old lantern").
"""

from rxllm.models.tiny.corpus.tables import lines

THING_OPENINGS = lines(
    """
    {Place}, {first} named {name} found {a_look}.
    One rainy afternoon {first} named {name} found {a_look}.
    Once there was {a_look} that nobody wanted. It lay {place} until {name}, {first}, came by.
    {A_look} stood {place}, and every day {first} named {name} stopped to look at it.
    """
)
THING_MOODS = lines(
    """
    There was something odd about the {thing}: it felt warm, like a hand.
    The {thing} was covered with dust, and under the dust there was a tiny star.
    “Every {thing} has a story,” said {name}, “and I want to hear this one.”
    Other people only saw {a_thing}. {Name} saw something more.
    When the wind blew, the {thing} seemed to hum.
    """
)
THING_WONDERS = lines(
    """
    That night the {thing} began to glow, and the whole room turned gold.
    When {name} touched the {thing}, it whispered, “Take me home.”
    {Name} cleaned the {thing} with a soft cloth, and a small voice said, “Thank you!”
    Whenever somebody told the truth near the {thing}, a bird began to sing.
    Whoever sat beside the {thing} remembered a happy day.
    """
)
THING_TROUBLES = lines(
    """
    But the next day the {thing} was silent, and nothing would wake it.
    Soon everybody in town wanted the {thing}, and there was a great quarrel.
    Then a storm came in the night, and in the morning the {thing} lay under a fallen tree.
    But a rich man came and offered a hundred coins for the {thing}.
    """
)
THING_HELP = lines(
    """
    {Name} asked {helper} for advice. “What does the {thing} want?” asked {the_helper}.
    “It belonged to my family long ago,” said {helper}, and told the whole story.
    {Helper} said only this: “{A_thing} is no use alone. Share it.”
    """
)
THING_ANSWERS = lines(
    """
    {Name} thought about it all night, and in the morning the answer was clear.
    “Of course!” cried {name}, and ran all the way to the market square.
    That made {name} smile for the first time in days.
    {Name} listened, nodded, and made a plan on the back of an envelope.
    """
)
THING_ENDINGS = lines(
    """
    So {name} gave the {thing} a place in the middle of town, where everyone could see it.
    Now the {thing} belongs to all of them, and it glows a little brighter each year.
    {Name} kept the {thing} and promised never to forget what it had said.
    And if you pass by in the evening, you can still hear the {thing} and {name} laughing.
    In the end the {thing} was home, and so was {name}.
    """
)
THEME_OPENINGS = lines(
    """
    This is a story about {theme}. It begins {place}, where {first} named {name} lived.
    {Place} lived {first} named {name}, who often thought about {theme}.
    When {name} was small, nobody could explain {theme}. So {name}, now {first}, set out to ask.
    """
)
THEME_QUESTIONS = lines(
    """
    “Tell me about {theme},” {name} said to everyone, and everyone said something different.
    One evening {name} asked {helper}, “What do you know about {theme}?”
    “You can't put {theme} in a bag,” said {helper}, “but you can look for it.”
    """
)
THEME_SEARCHES = lines(
    """
    The baker said it smelled of Sunday. The sailor said it was wide. The children only giggled.
    So {name} walked from door to door with a notebook, and the notebook filled up.
    All day {name} watched and listened, and wrote nothing down.
    {Name} packed some bread and {surprise} and walked until evening.
    """
)
THEME_TURNS = lines(
    """
    Then it began to rain, and {helper_again} made room under an umbrella.
    In a small window a lamp was burning, and somebody waved.
    On the way home {name} met {helper_again}, who had lost the way, and they walked together.
    """
)
THEME_MOMENTS = lines(
    """
    They sat down together, and for a while nobody said anything at all.
    “Sit down,” said somebody kindly, and there was soup, and there was a song.
    They shared the last of the bread, and it tasted better than a whole cake.
    Somewhere a clock struck nine, and suddenly everything was quite clear.
    """
)
THEME_ENDINGS = lines(
    """
    And that, thought {name}, was what {theme} is like. Nobody had to explain it any more.
    Later {name} wrote one line in the notebook: “Where there is {theme}, there is room for two.”
    Since that evening, whenever somebody asks about {theme}, {name} puts the kettle on.
    “So this is it,” said {name}, and thought of {theme} with a smile for many years.
    """
)
SEQUELS = lines(
    """
    The next morning {the} woke up early, because somebody was knocking at the door.
    A year later {the} got a letter with a golden stamp.
    After that, {the} slept for two days and woke up hungry.
    The very next day something new began.
    """
)
SEQUEL_EVENTS = lines(
    """
    It was {helper}, holding {surprise}, who said, “I need your help.”
    {Helper} had heard of {the} and had walked for three days to say hello.
    {Helper} invited {the} to a great feast on the hill.
    There stood {helper}, holding {surprise} and smiling.
    """
)
SEQUEL_ENDINGS = lines(
    """
    So {the} set out again, whistling, and that is another story.
    {The} laughed and said yes, and they celebrated until the moon went down.
    Together they had many more adventures, some big, some small, and all with a good supper.
    And {the}? {The} made tea for everybody, and it was a very fine evening.
    """
)
POEMS = (
    "Oh {thing}, oh {thing}, in the morning light,\nyou wait for the day to begin.\n"
    "You keep a small lamp for the end of the night\nand open the door to come in.",
    "I once met {a_thing} at the end of the lane,\nwho hummed a small song to the sky.\n"
    "We shared an umbrella, we walked in the rain,\nand neither of us asked why.",
    "The moon is a boat and the night is the sea,\nand who do you think is on board?\n"
    "It is {a_thing} with a cup of hot tea,\nas happy and proud as a lord.",
    "Some dream of a palace, some dream of a crown,\nand some of a mountain of gold.\n"
    "I dream of {a_thing} in a quiet old town,\nand of stories that have to be told.",
)
