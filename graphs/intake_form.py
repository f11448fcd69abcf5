"""Intake form: a job application in four steps, each a task. The caller may go back to any of them."""

from pydantic import BaseModel, Field

from graph_voice import Agent, RunContext, Task, TaskGroup, create_voice_graph, function_tool, history, tasks


class Experience(BaseModel):
    years: int = Field(ge=0, le=70, description="How many years the caller has worked as a technician, in digits.")


class Form(BaseModel):
    """What the four steps have found."""

    get_name: tasks.Name
    get_email: tasks.Email
    get_phone_number: tasks.PhoneNumber
    get_experience: Experience


class Applicant(BaseModel):
    form: Form | None = None


form = TaskGroup(
    "form",
    [
        tasks.get_name(confirm=False),
        tasks.get_email(confirm=True),  # spelled wrong, it reaches nobody: read it back however it came
        tasks.get_phone_number(confirm=False),
        Task(
            "get_experience",
            result=Experience,
            description="the caller's years of experience",
            instructions="Find out how many years the caller has worked as a technician.",
            on_enter="Ask for the years of experience as a technician.",
        ),
    ],
    result=Form,
    returns=history.fresh(),  # the recruiter needs the form, not what was said on the way to it
)


@function_tool(needs={"form": form})
async def apply(ctx: RunContext[Applicant], form: Form) -> str:
    """Fill in an application with the caller. The caller is asked for all that it needs."""
    ctx.userdata.form = form
    return f"The application of {form.get_name.full} is complete. We will write to {form.get_email.address}"


recruiter = Agent(
    "recruiter",
    instructions="You answer calls of people who want to work as technicians for Acorn Broadband.",
    on_enter="Greet the caller, and ask whether they want to apply now.",
    tools=[apply],
)

graph = create_voice_graph([recruiter, form], userdata=Applicant)
