"""What the kitchen has, what it costs, and what is sold out. The tools and the prompt are made from these rows."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["MENU", "Category", "Menu", "Row", "Size"]

Size = Literal["S", "M", "L"]
Category = Literal["drink", "combo", "kids_meal", "regular", "sauce"]

SIZES: dict[Size, str] = {"S": "small", "M": "medium", "L": "large"}
SECTIONS: dict[Category, str] = {
    "drink": "Drinks",
    "combo": "Combos (with fries and a drink, which cost nothing extra)",
    "kids_meal": "Kids' meals (with small fries and a drink, which cost nothing extra)",
    "regular": "À la carte",
    "sauce": "Sauces",
}


class Row(BaseModel):
    """One line of the menu: a thing in one size."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    category: Category
    calories: int
    cents: int
    size: Size | None = None
    alias: str | None = None
    """What customers call it: combos have numbers."""
    available: bool = True

    @property
    def title(self) -> str:
        """As it stands in a cart."""
        return f"{self.name} ({SIZES[self.size]})" if self.size is not None else self.name

    def __str__(self) -> str:
        alias = f', also called "{self.alias}"' if self.alias is not None else ""
        size = f", size {self.size}" if self.size is not None else ""
        sold_out = "" if self.available else ", UNAVAILABLE"
        return f"- {self.name} [{self.id}]{alias}{size}: {self.calories} kcal, ${self.cents / 100:.2f}{sold_out}"


class Menu:
    """The rows, and how to find one."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)

    def of(self, *categories: Category) -> list[Row]:
        return [row for row in self.rows if row.category in categories]

    def ids(self, *categories: Category) -> list[str]:
        """The ids of these sections, each once."""
        return list(dict.fromkeys(row.id for row in self.of(*categories)))

    def find(self, item: str, size: Size | None = None) -> Row | None:
        """The row of an id in a size; None if there is none."""
        return next((row for row in self.rows if (row.id, row.size) == (item, size)), None)

    def name(self, item: str) -> str:
        return next(row.name for row in self.rows if row.id == item)

    def sizes(self, item: str) -> list[Size]:
        """In which sizes it comes; none if it comes in one size only."""
        return [row.size for row in self.rows if row.id == item and row.size is not None]

    def resolve(self, words: str, ids: Sequence[str]) -> str | None:
        """The one of these ids that is meant: by the id, the name or the alias, whatever the case; None if none is."""
        if words in ids:
            return words
        meant = {row.id for row in self.rows if row.id in ids and _plain(words) in _ways_to_say(row)}
        return meant.pop() if len(meant) == 1 else None

    def __str__(self) -> str:
        """The menu as text for a prompt."""
        sections = [f"{title}:\n" + "\n".join(map(str, self.of(key))) for key, title in SECTIONS.items()]
        return "\n\n".join(sections)


HEARD = {"sunday": "sundae"}
"""What speech recognition writes for a word of the menu."""
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def _plain(words: str) -> str:
    """How a name sounds: "Number Four B" and "4b" are the same."""
    found = re.findall(r"[a-z]+|[0-9]+", re.sub(r"['’]", "", words.lower()))
    heard = [HEARD.get(word, word) for word in found if word != "number"]
    return "".join(str(NUMBERS.index(word)) if word in NUMBERS else word for word in heard).removesuffix("s")


def _ways_to_say(row: Row) -> set[str]:
    numbered = [row.alias, f"{row.alias} combo"] if row.alias is not None else []
    return {_plain(way) for way in (row.id, row.name, *numbered)}


def _sized(
    item: str, name: str, category: Category, calories: tuple[int, int, int], cents: tuple[int, int, int], out: str = ""
) -> list[Row]:
    """A thing in three sizes; `out`: the sizes that are sold out."""
    return [
        Row(id=item, name=name, category=category, calories=c, cents=p, size=size, available=size not in out)
        for size, c, p in zip(SIZES, calories, cents, strict=True)
    ]


def _one(
    item: str, name: str, category: Category, calories: int, cents: int, alias: str = "", out: bool = False
) -> Row:
    """A thing in one size."""
    return Row(
        id=item, name=name, category=category, calories=calories, cents=cents, alias=alias or None, available=not out
    )


SODA, JUICE, SHAKE = (170, 240, 330), (150, 220, 300), (450, 590, 780)

MENU = Menu(
    [
        *_sized("kite_cola", "Kite Cola", "drink", SODA, (169, 199, 229)),
        *_sized("kite_cola_zero", "Kite Cola Zero", "drink", (0, 0, 5), (169, 199, 229)),
        *_sized("cherry_cola", "Cherry Cola", "drink", SODA, (169, 199, 229)),
        *_sized("lemon_fizz", "Lemon Fizz", "drink", SODA, (169, 199, 229)),
        *_sized("orange_soda", "Orange Soda", "drink", SODA, (169, 199, 229)),
        *_sized("root_beer", "Root Beer", "drink", SODA, (169, 199, 229), out="SML"),
        *_sized("iced_tea", "Iced Tea", "drink", (5, 5, 10), (149, 179, 209)),
        *_sized("sweet_tea", "Sweet Tea", "drink", (90, 120, 180), (149, 179, 209)),
        *_sized("peach_lemonade", "Peach Lemonade", "drink", JUICE, (189, 229, 269), out="L"),
        _one("spring_water", "Spring Water", "drink", 0, 149),
        _one("milk", "Milk", "drink", 100, 159),
        _one("apple_juice", "Apple Juice", "drink", 80, 159),
        _one("combo_kite", "Kite Burger Combo", "combo", 1010, 899, "1"),
        _one("combo_double_kite", "Double Kite Combo", "combo", 1230, 999, "2a"),
        _one("combo_bacon_kite", "Bacon Kite Combo", "combo", 1290, 1049, "2b"),
        _one("combo_triple_kite", "Triple Kite Combo", "combo", 1480, 1149, "3"),
        _one("combo_crispy_chicken", "Crispy Chicken Combo", "combo", 960, 949, "4a"),
        _one("combo_spicy_chicken", "Spicy Chicken Combo", "combo", 980, 949, "4b"),
        _one("combo_fish", "Fish Sandwich Combo", "combo", 870, 929, "5"),
        _one("combo_nuggets_6", "Six Nuggets Combo", "combo", 760, 799, "6a"),
        _one("combo_nuggets_10", "Ten Nuggets Combo", "combo", 920, 929, "6b"),
        _one("combo_garden", "Garden Burger Combo", "combo", 840, 899, "7"),
        _one("combo_wrap", "Chicken Wrap Combo", "combo", 790, 879, "8"),
        _one("combo_melt", "Patty Melt Combo", "combo", 1120, 1019, "9", out=True),
        _one("kids_burger", "Kids' Burger", "kids_meal", 520, 549),
        _one("kids_nuggets", "Kids' Nuggets", "kids_meal", 470, 549),
        _one("kids_cheese", "Kids' Grilled Cheese", "kids_meal", 490, 499),
        _one("kite_burger", "Kite Burger", "regular", 540, 529),
        _one("double_kite", "Double Kite", "regular", 760, 629),
        _one("bacon_kite", "Bacon Kite", "regular", 820, 679),
        _one("triple_kite", "Triple Kite", "regular", 1010, 779),
        _one("crispy_chicken", "Crispy Chicken Sandwich", "regular", 490, 579),
        _one("spicy_chicken", "Spicy Chicken Sandwich", "regular", 510, 579),
        _one("fish_sandwich", "Fish Sandwich", "regular", 400, 559),
        _one("garden_burger", "Garden Burger", "regular", 370, 529),
        _one("chicken_wrap", "Chicken Wrap", "regular", 320, 449),
        _one("nuggets_6", "Six Nuggets", "regular", 290, 399),
        _one("nuggets_10", "Ten Nuggets", "regular", 450, 559),
        _one("side_salad", "Side Salad", "regular", 90, 349),
        _one("apple_slices", "Apple Slices", "regular", 15, 149),
        _one("onion_rings", "Onion Rings", "regular", 380, 329),
        _one("cookie_swirl", "Cookie Swirl", "regular", 510, 449),
        _one("caramel_sundae", "Caramel Sundae", "regular", 330, 299, out=True),
        *_sized("fries", "Fries", "regular", (230, 320, 480), (239, 289, 339)),
        *_sized("vanilla_shake", "Vanilla Shake", "regular", SHAKE, (329, 389, 449)),
        *_sized("chocolate_shake", "Chocolate Shake", "regular", SHAKE, (329, 389, 449)),
        *_sized("strawberry_shake", "Strawberry Shake", "regular", SHAKE, (329, 389, 449)),
        _one("ketchup", "Ketchup", "sauce", 20, 0),
        _one("mayonnaise", "Mayonnaise", "sauce", 90, 25),
        _one("mustard", "Mustard", "sauce", 10, 0),
        _one("barbecue", "Barbecue Sauce", "sauce", 45, 25),
        _one("honey_mustard", "Honey Mustard", "sauce", 60, 25),
        _one("garlic_dip", "Garlic Dip", "sauce", 110, 25),
        _one("sweet_and_sour", "Sweet and Sour Sauce", "sauce", 50, 25),
        _one("ranch", "Ranch Dressing", "sauce", 110, 25),
        _one("smoky_chili", "Smoky Chili Sauce", "sauce", 30, 25, out=True),
    ]
)
