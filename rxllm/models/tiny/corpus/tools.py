"""Tools as people define them: a clock, a calculator, a weather report and a table of places.

The places are made up, and so are their weather and what they are known for.
"""

from random import Random
from typing import Any, Literal, NamedTuple

from rxllm.models.tiny.corpus.tables import entries, words

Kind = Literal["clock", "calculator", "weather", "places"]


class Offer(NamedTuple):
    """A tool as one conversation offers it.

    definition: as in OpenAI's chat completions; parameter: the name of its only parameter, or "";
    is_required: the parameter must be given.
    """

    kind: Kind
    definition: dict[str, Any]
    name: str
    parameter: str
    is_required: bool


_NAMES: dict[Kind, tuple[str, ...]] = {
    "clock": words("clock get_time current_time get_current_time time_in local_time tell_time now"),
    "calculator": words("calculator calculate compute evaluate math do_math arithmetic"),
    "weather": words("weather get_weather weather_report current_weather get_current_weather"),
    "places": words("place find_place places about_place look_up_place place_info get_place"),
}
_PARAMETERS: dict[Kind, tuple[str, ...]] = {
    "clock": words("place city location town where"),
    "calculator": words("expression formula calculation term input"),
    "weather": words("place city location town where"),
    "places": words("name place town city"),
}
_DESCRIPTIONS: dict[Kind, tuple[str, ...]] = {
    "clock": entries(
        """
        Tell the time/The time now/Get the current time/Returns the current time/The current time/
        What time it is/Tells what time it is/Get the time of day
        """,
        "/",
    ),
    "calculator": entries(
        """
        Calculate/Evaluate an expression/A calculator/Compute the value of an expression/
        Does arithmetic/Calculates sums, differences, products and quotients/
        Evaluate an arithmetic expression/Work out a sum
        """,
        "/",
    ),
    "weather": entries(
        """
        The weather in a place/Get the weather/Get the current weather in a given city/
        Report the weather of a place/Returns the weather/Today's weather/A weather report/
        What the weather is like
        """,
        "/",
    ),
    "places": entries(
        """
        Look up a place/What is known about a place/Facts about a town/A table of places/
        Find a place in the table/Information about a place/Get facts about a place
        """,
        "/",
    ),
}
_PARAMETER_DESCRIPTIONS: dict[Kind, tuple[str, ...]] = {
    "clock": entries("the place/a city/Where/The name of the town/name of a place", "/"),
    "calculator": entries(
        "the expression/such as 2 + 2/An arithmetic expression/what to calculate", "/"
    ),
    "weather": entries("the place/a city/Where/The name of the town/name of a place", "/"),
    "places": entries("the name/the place/Which place/The name of the town", "/"),
}


def offer(random: Random, kind: Kind) -> Offer:
    """Return a tool of a kind, with a name, a parameter and descriptions drawn from the lists."""
    name, parameter = random.choice(_NAMES[kind]), random.choice(_PARAMETERS[kind])
    is_required = True
    if kind == "clock":
        parameter = parameter if random.random() < 0.55 else ""
        is_required = bool(parameter) and random.random() < 0.7
    function: dict[str, Any] = {"name": name}
    if random.random() < 0.9:
        end = random.choice(("", "", "."))
        function["description"] = random.choice(_DESCRIPTIONS[kind]) + end
    parameters = _schema(random, kind, parameter, is_required)
    if parameters["properties"] or random.random() < 0.7:
        function["parameters"] = parameters
    return Offer(kind, {"type": "function", "function": function}, name, parameter, is_required)


def _schema(random: Random, kind: Kind, parameter: str, is_required: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    if parameter:
        described: dict[str, Any] = {"type": "string"}
        if random.random() < 0.5:
            described["description"] = random.choice(_PARAMETER_DESCRIPTIONS[kind])
        if random.random() < 0.1:
            described = {"title": parameter.capitalize(), **described}
        schema["properties"][parameter] = described
    if is_required or (not parameter and random.random() < 0.3):
        schema["required"] = [parameter] if parameter else []
    if random.random() < 0.2:
        schema["additionalProperties"] = False
    return schema


PLACES = words(
    """
    Abendra Ankora Arvenna Belmora Borovar Brindle Calvaro Cormell Dalmora Dorvik Eldmoor Elvany
    Farrowby Feldin Galvora Glimmer Grimsel Halvard Hollowby Ilmara Isengar Jorvale Kallina Kestrel
    Korvu Lanthia Lindmar Lorvela Mirefall Morvanta Nalvik Norbria Oakmere Orlanda Ostrava Pellam
    Pondry Quarry Ravenna Rillstone Rondello Saltmere Selvane Silmar Tarvos Tamsin Tolvara Ulmen
    Umbria Valdora Velmo Vintry Wendla Westmarch Wrenfield Yarrow Zandria Zelmira
    """
)
SKIES = entries(
    """
    rain/light rain/heavy rain/snow/fog/sunshine/storms/hail/clouds/a strong wind/thunder/drizzle/
    clear skies/a warm breeze/mist/ice/showers
    """,
    "/",
)
LOOKS_OF_SKIES = words(
    "sunny rainy cloudy windy foggy snowy stormy clear misty hot cold mild dry wet frosty icy"
)
SIGHTS = entries(
    """
    bells/blue towers/honey/old bridges/its market/red roofs/a clock without hands/windmills/cheese/
    kites/a singing well/glass/apple trees/long winters/paper lanterns/a crooked tower/silver fish/
    its library/slow trains/warm bread/boats/storytellers/a garden of stones/copper pots
    """,
    "/",
)
RIVERS = entries(
    """
    the Silver/the Long Water/the Otter/the Green Lin/the Marrow/the Little Bell/the Amber/the Wend
    """,
    "/",
)
