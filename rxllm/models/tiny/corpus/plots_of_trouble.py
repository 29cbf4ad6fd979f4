"""Sentences of stories about a fear, a loss, a journey or a friendship, as in `plots.py`."""

from rxllm.models.tiny.corpus.tables import lines

FEARS = lines(
    """
    But {the} had a secret: {they} {were} afraid of {fear}. {Feeling}.
    Only one thing was difficult. {The} {were} afraid of {fear}. {Feeling}.
    {Who} feared nothing in the world except {fear}. {Feeling}.
    """
)
FEAR_TURNS = lines(
    """
    One evening {helper} got lost and called for help, and there was nobody else to go.
    One day {helper} came by and noticed it. “Would you like company?” asked {the_helper}.
    Then {helper} moved in next door and asked {the} to come for a walk.
    """
)
FEAR_STEPS = lines(
    """
    {The} trembled, took a deep breath, and went one step, and then another.
    “{I} can't,” said {the}. “Then we will do it slowly,” said {the_helper}.
    {The} held on to {surprise} with both hands and went ahead.
    {The} counted to ten, twice, and opened the door.
    """
)
FEAR_COMPANY = lines(
    """
    “I was afraid too, once,” said {the_helper}. “Then I looked more closely.”
    “Nobody is brave all day,” said {the_helper}. “A minute is enough.”
    {The_helper} hummed a little song, and that helped more than any advice.
    They went side by side, and with every step it became a little easier.
    """
)
FEAR_TRUTHS = lines(
    """
    And what did {who} find out? That {discovery}.
    That night {who} learned that {discovery}.
    And there, at last, was the truth: {discovery}.
    """
)
FEAR_ENDINGS = lines(
    """
    {The} still jumped a little sometimes, but never ran away from {fear} again.
    “Is that all?” laughed {the}, and {the_helper} laughed too.
    Now, when somebody is afraid of {fear}, they send for {the}.
    After that, {fear} felt almost like an old neighbour.
    """
)
LOSSES = lines(
    """
    One morning {the} woke up and could not find {their} {thing}.
    But one windy day {the} lost {their} {thing}, the best {thing} in the world.
    Then one day {their} {thing} was gone.
    """
)
SEARCHES = lines(
    """
    {Who} looked under the bed, behind the stove and even in the soup. There was no {thing}.
    {Who} searched the whole street and found three buttons and a sock, but no {thing}.
    {The} asked the baker, the postman and the cat. Nobody had seen a {thing}.
    """
)
FOUND = lines(
    """
    {Helper} came along and asked what was wrong. Together they followed the trail to the old barn.
    There sat {helper} with something under one arm. “Is this yours?” asked {the_helper}.
    In the end it was {helper} who said, “Begin where you last laughed.” So {the} did.
    """
)
FOUND_ENDINGS = lines(
    """
    There was the {thing}, and beside it lay {surprise}. {The} gave that to {the_helper} as thanks.
    There it was, the {thing}, a little muddy but whole. {The} hugged {the_helper} and then the {thing}.
    The {thing} had been there all the time. {The} laughed so long that everyone came to look.
    """  # noqa: E501
)
LESSONS = lines(
    """
    Since then {the} {habit}, and life was never sad for long.
    “Sometimes you lose a {thing} and find a friend,” said {the}, and that was true.
    That night {who} slept well, with the {thing} under the pillow.
    """
)
JOURNEYS = lines(
    """
    Ever since {they} {were} little, {who} had wanted to see {sight}.
    One night {who} dreamed of {sight}, and in the morning {they} packed a bag.
    A postcard showed {sight}. {The} looked at it every day and thought, one day I will go.
    """
)
OBSTACLES = lines(
    """
    The road was long, the bridge was broken, and it began to rain.
    On the second day {the} came to a fork in the road, and the sign had fallen down.
    After three hills {their} feet were sore and the bread was gone.
    Then fog came down, so thick that {the} could not see {their} own feet.
    """
)
GUIDES = lines(
    """
    “Are you lost?” asked {helper}. “Only a little,” said {the}.
    Then {helper} appeared and shared a sandwich.
    By the road sat {helper} with {surprise}. “Take it,” said {the_helper}. “You will need it.”
    """
)
ARRIVALS = lines(
    """
    They walked on together and told each other jokes, and suddenly there it was: {sight}.
    On the last morning {the} climbed one more hill, and there was {sight}.
    And then, just when {the} stopped looking, there was {sight}.
    """
)
JOURNEY_ENDINGS = lines(
    """
    It was bigger and quieter than any dream. {The} stood there until the first star came out.
    “It was worth every step,” said {the}. Then they had tea.
    {The} took nothing home but a smile, and it lasted all winter.
    {The} told everyone at home, and soon half of the village was packing.
    """
)
MEETINGS_OF_TWO = lines(
    """
    One liked to talk and the other liked to listen, so they got along very well.
    At first {the} did not agree about anything, not even about the weather.
    Every day {the} met at the old bridge to share their lunch.
    Nobody had ever seen such a pair. They did everything together.
    """
)
TROUBLES_OF_TWO = lines(
    """
    One night a storm took the roof off the barn.
    One day they found {surprise}, and each of them wanted it.
    Then a letter came: the river was rising, and the village needed help.
    One winter the snow came up to the windows, and there was only one warm room.
    """
)
TURNS_OF_TWO = lines(
    """
    “We can do this,” they said, “but only together.”
    They argued until {helper} asked, “And what would you do without each other?”
    First they were cross, then they were hungry, and then they began to laugh.
    """
)
WORK_OF_TWO = lines(
    """
    One of them had strong arms, and the other had good ideas.
    They made a plan on the back of an old map and began before sunrise.
    It took all day and half of the night, and they sang to stay awake.
    “You go left, I will go right,” they called, and off they went.
    """
)
ENDINGS_OF_TWO = lines(
    """
    So {the} worked side by side, and by morning everything was right again.
    In the end {the} shared all they had, and it was more than enough.
    And since that day {the} have been the best of friends.
    To this day you can see {the} at the old bridge, sharing an apple.
    """
)
HABITS = (
    "kept a bell on everything important",
    "looked after small things",
    "helped others to look for theirs",
    "left the window open for good news",
)
