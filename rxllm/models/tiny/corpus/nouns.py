"""Word list: the nouns that stories are about."""

from rxllm.models.tiny.corpus.tables import entries

ANIMALS = entries(
    """
    alpaca, ant, antelope, armadillo, badger, bat, bear, beaver, bee, beetle, bison, blackbird,
    bluebird, buffalo, butterfly, camel, canary, cat, caterpillar, cheetah, chick, chicken,
    chipmunk, clam, cow, crab, crane, cricket, crocodile, crow, cuckoo, deer, dog, dolphin, donkey,
    dove, dragonfly, duck, duckling, eagle, earthworm, eel, elephant, falcon, fawn, ferret, finch,
    firefly, fish, flamingo, fly, foal, fox, frog, gazelle, gecko, giraffe, goat, goldfish, goose,
    gorilla, grasshopper, guinea pig, gull, hamster, hare, hawk, hedgehog, hen, heron, hippo,
    horse, hummingbird, iguana, jackdaw, jellyfish, kangaroo, kingfisher, kitten, koala, ladybird,
    lamb, lark, lemur, leopard, lion, lizard, llama, lobster, lynx, magpie, mammoth, meerkat, mole,
    monkey, moose, mosquito, moth, mouse, mule, narwhal, newt, nightingale, octopus, orca, ostrich,
    otter, owl, ox, oyster, panda, panther, parrot, peacock, pelican, penguin, pheasant, pig,
    pigeon, piglet, polar bear, pony, porcupine, puffin, puppy, quail, rabbit, raccoon, rat, raven,
    reindeer, rhino, robin, rooster, salamander, salmon, sea turtle, seahorse, seal, shark, sheep,
    shrimp, skunk, sloth, snail, snake, sparrow, spider, squid, squirrel, starfish, stork, swallow,
    swan, tiger, toad, tortoise, trout, turkey, turtle, walrus, wasp, weasel, whale, wolf, wombat,
    woodpecker, worm, wren, yak, zebra
    """,
    ",",
)

PEOPLE = entries(
    """
    acrobat, actor, archer, architect, artist, astronaut, astronomer, baker, barber, beekeeper,
    blacksmith, bookseller, boy, builder, bus driver, butcher, captain, carpenter, chef, child,
    clockmaker, clown, cobbler, cook, cowboy, dancer, dentist, detective, diver, doctor, dreamer,
    driver, emperor, engineer, explorer, farmer, ferryman, firefighter, fisher, florist, gardener,
    girl, glassblower, goldsmith, grandfather, grandmother, guard, guitarist, hermit, hunter,
    inventor, janitor, jester, juggler, king, knight, librarian, lighthouse keeper, magician,
    mapmaker, mechanic, merchant, messenger, miller, miner, monk, musician, nurse, painter,
    pharmacist, photographer, pianist, pilot, pirate, plumber, poet, postman, potter, prince,
    princess, professor, programmer, puppeteer, queen, ranger, sailor, scholar, scientist,
    sculptor, shepherd, shopkeeper, singer, soldier, student, surgeon, surfer, swimmer, tailor,
    teacher, thief, traveller, violinist, waiter, watchmaker, weaver, writer
    """,
    ",",
)

CREATURES = entries(
    """
    alien, android, cloud, comet, computer, cyborg, dinosaur, dragon, drone, dwarf, elf, fairy,
    genie, ghost, giant, gnome, goblin, griffin, imp, machine, mermaid, monster, ogre, phoenix,
    puppet, raindrop, robot, scarecrow, shadow, skeleton, snowflake, snowman, sorcerer, spaceship,
    spirit, star, statue, sunflower, tin soldier, toy bear, train, tractor, tree, troll, unicorn,
    vampire, witch, wizard, yeti, oak, pine, cactus, mushroom, pumpkin, teapot, steam engine,
    little boat, vacuum cleaner, traffic light, street lamp
    """,
    ",",
)

OBJECTS = entries(
    """
    anchor, apple, arrow, backpack, ball, balloon, banjo, basket, bell, bench, bicycle, blanket,
    book, boot, bottle, box, bracelet, bridge, broom, brush, bucket, button, cake, camera, candle,
    carpet, cart, castle, cave, chair, chest, clock, coat, coin, compass, cookie, crown, cup, desk,
    diary, door, drum, egg, feather, fence, flag, flower, flute, fork, fountain, garden, gate,
    glove, guitar, hammer, harp, hat, helmet, island, jar, jewel, kettle, key, kite, ladder, lamp,
    lantern, lemon, letter, lighthouse, lock, map, marble, mask, mill, mirror, necklace, needle,
    notebook, oar, orange, painting, pancake, pearl, pebble, pen, pencil, piano, picture, pillow,
    pocket watch, pot, quilt, radio, ribbon, ring, rope, rose, sandwich, scarf, seed, shell, ship,
    shoe, spoon, stone, suitcase, sword, table, telescope, tent, thimble, ticket, tower, treehouse,
    trumpet, tunnel, typewriter, umbrella, vase, violin, wagon, wand, well, wheel, whistle,
    windmill, window, wooden horse
    """,
    ",",
)

THEMES = entries(
    """
    autumn, bravery, bread, change, chocolate, courage, curiosity, family, fear, fire, forgiveness,
    freedom, friendship, happiness, home, honesty, hope, ice, kindness, laughter, love, luck,
    memory, moonlight, music, night, patience, peace, rain, sharing, silence, sleep, snow, space,
    spring, summer, sunshine, the city, the desert, the forest, the future, the moon, the mountains,
    the night sky, the ocean, the sea, the stars, the sun, the wind, thunder, time, trust, winter
    """,
    ",",
)
