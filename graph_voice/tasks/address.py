"""The task that gets a postal address."""

from pydantic import BaseModel
from typing_extensions import Unpack

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.tools import function_tool
from graph_voice.tasks.common import Recorded, TaskOptions, confirm_tool, ready_made, recorded

__all__ = ["Address", "get_address"]


class Address(BaseModel):
    """The result of `get_address`. What the country's addresses do not have is empty."""

    street: str = ""
    """Street and number."""
    unit: str = ""
    """Apartment, floor, or company."""
    city: str = ""
    region: str = ""
    """State, province or county."""
    postal_code: str = ""
    country: str = ""


class Draft(Recorded):
    address: Address = Address()


def get_address(
    name: str = "get_address",
    *,
    country: str | None = None,
    confirm: bool | None = None,
    **options: Unpack[TaskOptions],
) -> Task[Address]:
    """A task that gets the caller's postal address, of any country. Street, city and country are needed.

    Args:
        name: the task's name.
        country: the country of the address, if the caller need not say it.
        confirm: whether the address is read back, and the caller confirms it. Default: when the caller speaks.
        options: `Task`'s own, such as `instructions`, `on_enter`, `history`, `llm`, `voice`.
    """

    @function_tool
    async def record_address(
        ctx: RunContext[object, Draft],
        street: str = "",
        unit: str = "",
        city: str = "",
        region: str = "",
        postal_code: str = "",
        country: str = "",
    ) -> Done | str:
        """Record the address. Parts that were recorded before can be left out.

        Args:
            street: street and number.
            unit: apartment, floor, or company.
            city: the city or town.
            region: the state, province or county.
            postal_code: the postal code, in the form of the country.
            country: the country.
        """
        given = {"street": street, "unit": unit, "city": city, "region": region}
        given |= {"postal_code": postal_code, "country": country}
        if len("".join(given.values())) > 500:
            raise ToolError("That is longer than an address. Record only the address.")
        found = ctx.draft.address.model_copy(
            update={part: text.strip() for part, text in given.items() if text.strip()}
        )
        if not found.country and home:
            found.country = home
        ctx.draft.address = found
        if missing := [part for part in ("street", "city", "country") if not getattr(found, part)]:
            ctx.draft.recorded_after = None
            return f"Recorded. Ask for: {', '.join(missing)}."
        lines = [found.street, found.unit, f"{found.postal_code} {found.city}".strip(), found.region, found.country]
        read_back = f"Read the address back: {', '.join(line for line in lines if line)}."
        return recorded(ctx, confirm, found, read_back)

    home = country
    return ready_made(
        name,
        result=Address,
        draft=Draft,
        tools=[record_address, confirm_tool("confirm_address", "the address", lambda draft: draft.address)],
        what="the caller's postal address",
        record="record_address",
        confirm_by="confirm_address",
        confirm=confirm,
        spoken='Write numbers as digits ("forty two b" is 42B), and names as they are usually spelled.',
        typed="Divide what was typed into its parts.",
        options=options,
    )
