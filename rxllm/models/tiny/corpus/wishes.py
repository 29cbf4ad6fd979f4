"""What heroes wish for, fear and look for, each with matching sentences.

Tables are text with one row per line and fields separated by bars, so they are easy to extend.
"""

from typing import NamedTuple

from rxllm.models.tiny.corpus.tables import entries, rows


class Skill(NamedTuple):
    """A skill to learn: its verb, how the first try went, advice, and how it ended."""

    verb: str
    first_try: str
    advice: str
    triumph: str


class Fear(NamedTuple):
    """A fear: its name, how it felt, and what the hero found out about it."""

    name: str
    feeling: str
    discovery: str


SKILLS = tuple(
    Skill(*row)
    for row in rows(
        """
paint | The first picture looked like a wet potato | Paint what you feel, not only what you see | painted the whole harbour in gold and blue
draw | The first drawing looked more like a spoon than a horse | Look twice before you draw once | drew every face in the market square
dance | The first steps ended in a flower bed | Listen to the music with your feet | danced across the square until the lamps went out
sing | The first song frightened three pigeons | Breathe slowly and start with a small song | sang so sweetly that the bells kept quiet to listen
fly | The first flight lasted one second and ended in the hay | The wind is a friend if you lean on it | flew over the rooftops and waved to the clouds
swim | The first splash emptied half of the pond | Trust the water and it will carry you | swam all the way to the little island and back
cook | The first soup tasted of smoke and old boots | Taste it, wait a little, and taste it again | cooked a soup that made the whole street hungry
bake bread | The first loaf was as hard as a brick | Good bread needs time to rest, and so do you | baked a loaf so light that it almost floated
read | The letters jumped about like fleas | One letter at a time makes a word, and one word at a time makes a book | read a whole book aloud beside the fire
write poems | The first poem rhymed cheese with cheese | Write down the thing that you can't stop thinking about | wrote a poem that was pinned to every door
play the violin | It sounded like a cat in a bucket | Play one note until it is kind, and then play the next | played a waltz that made even the chairs sway
play the piano | The first tune had more wrong notes than right ones | Play slowly, and the song will come to you | played a lullaby that put the whole town to sleep
play chess | The first game was over after four moves | Before you move, ask what the other side is dreaming of | won a game against the mayor and offered him a rematch
juggle | All three apples rolled under the cupboard | Don't watch your hands, watch the sky | juggled seven oranges and a shoe
skate | The ice was slippery and the first turn had no end | Bend your knees and laugh when you fall | skated a perfect figure of eight on the frozen lake
climb | The first tree was too tall and the second had ants | Look for the next branch, not for the top | climbed the tallest tower and saw the sea
build boats | The first boat sank before lunch | A good boat begins with a good plank | built a boat that crossed the bay without one drop inside
tell jokes | Nobody laughed except a passing goat | Wait a moment before the last word | told a joke that made the old king fall off his chair
grow roses | Nothing came up but a very proud weed | Water them in the morning and talk to them at night | grew a rose as red as the evening sun
count the stars | Every night the counting stopped at ninety-nine | Begin again, for the stars are patient | counted a thousand stars and gave a name to each
whistle | No sound came out, only air | Think of a bird that you love and try to answer it | whistled a tune that every sparrow knew by heart
knit | The first scarf had two corners too many | One stitch is enough if you make it a thousand times | knitted a scarf long enough for two friends
cook pancakes | The first pancake stuck to the ceiling | Wait for the little bubbles before you turn it | cooked a tower of pancakes and shared every one
sail | The first trip went round and round in a circle | Ask the wind where it is going before you set the sail | sailed past the lighthouse and home before dark
ride a bicycle | The bicycle went left and its rider went right | Look where you want to go, not where you might fall | rode a bicycle down the hill with both feet in the air
fix clocks | After the first repair the clock ran backwards | Listen to the clock before you open it | fixed the great clock in the tower, and it struck twelve
make music | The first song sounded like falling pots | There is a song in every quiet thing | made music from rain, spoons and an old bottle
speak to birds | The birds only looked puzzled and flew away | First learn to be quiet together | spoke to birds from every country and knew all their news
make friends | The first hello was so quiet that nobody heard it | Say hello once more, a little louder | made friends with everybody on the street
tell stories | The first story had no end and a very long middle | Every story is a road, so ask where it goes | told stories until the fire burned low
be brave | The first brave step was a step backwards | Being brave is being afraid and going on | crossed the dark bridge alone and came back smiling
take photographs | The first photograph showed nothing but a thumb | Wait for the light, because it always comes back | took a photograph of the sunrise that hung in the town hall
jump over puddles | The first puddle was deeper than it looked | Run, breathe, and think of a feather | jumped over the widest puddle in town without one wet toe
make tea | The first cup was cold and full of leaves | Warm the pot, and count slowly to one hundred | made tea so good that guests came from three villages
speak French | The first sentence asked a lamp for its shoes | Begin with the words for bread and thank you | spoke French with a sailor from Marseille all evening
do magic tricks | The rabbit would not come out of the hat | A trick is only practice with a smile in front | did magic tricks at the fair and pulled a rainbow from a sleeve
grow vegetables | The first carrot was smaller than a needle | Good soil, good rain and a good deal of waiting | grew vegetables that filled eleven baskets
sleep | The pillow was too warm and the moon was too bright | Close your eyes and listen to your own breath | slept for ten hours and dreamed of soft clouds
say no | The first no sounded very much like a yes | A kind no is better than an angry yes | said no, politely and clearly, and felt as light as a feather
cross the river | The water was fast and the stones were slippery | Step on the stones that are dry, and take your time | crossed the river in seven careful steps
"""  # noqa: E501
    )
)

PLAIN_VERBS = entries(
    """
    act,balance,bake cakes,bowl,build houses,build robots,camp,carve wood,catch fish,
     climb mountains,code,collect shells,cook rice,cut hair,dive,drive a bus,drum,explore caves,
    farm,find north, fold paper,garden,hide,help others,hop,hum,jump,keep bees,laugh,listen,love,
    make candles, make cheese,make ice cream,make kites,make maps,make soup,mend nets,mend shoes,
    milk a cow, play cards,play football,play the drum,play the flute,play the guitar,
    play the harp, play the trumpet,race,repair engines,ride a horse,roar,row a boat,run fast,
    save money,sew, share,skip,ski,smile,solve puzzles,spell,spin wool,stand on one leg,surf,
    teach,throw a ball, travel,trust others,type,wait,wash dishes,weave baskets,whisper,write,
    write letters,write songs, yodel,be patient,be kind,blow glass,bake pies,polish stones,
    plant trees,feed the ducks, read maps,read music,tie knots,walk on a rope,walk quietly,
    watch the clouds,weld,yawn
    """,
    ",",
)

FEARS = tuple(
    Fear(*row)
    for row in rows(
        """
the dark | Every evening the corners of the room seemed to grow | the dark was only the day with its eyes closed
thunder | Every rumble in the sky felt like a giant rolling over | thunder was only the clouds clapping for the rain
deep water | Even a large puddle was a good reason to turn around | deep water holds up anyone who lies quite still
heights | Even the second step of a ladder was too much | the world looks kinder from above
loud noises | A dropped spoon was enough to start a long run | every loud noise has a small reason
mirrors | Somebody always seemed to look back | the stranger in the mirror smiled first if you smiled first
strangers | Every knock at the door meant hiding behind the curtain | a stranger is only a friend who has not spoken yet
the wind | The shutters rattled and the trees whispered | the wind only wanted somebody to play with
spiders | One thin thread in the corner meant sleeping in the garden | the spider was busy knitting and had no time to bite
the forest | The trees stood close together as if they had secrets | the forest was full of small, polite voices
dogs | A bark three streets away was near enough | the dog was just as nervous and wagged its tail
ghosts | White sheets on a washing line were quite enough | the ghost was a curtain that somebody forgot to close
mistakes | So it seemed safer to begin nothing at all | a mistake is only a step with mud on it
being alone | The house was far too quiet after supper | a good thought is company too
storms | One grey cloud meant a whole day under the bed | behind every storm somebody is lighting a lamp
"""  # noqa: E501
    )
)

SIGHTS = entries(
    """
    the sea|the moon up close|the northern lights|the end of the rainbow|the big city|real snow|
    the top of the mountain|the place where the sun sleeps|the great waterfall|a shooting star|
    the oldest tree in the world|the desert at night|the other side of the hill|the carnival|
    the king's garden|the lighthouse|the first flower of spring|a whale|the whole world
    """,
    "|",
)
