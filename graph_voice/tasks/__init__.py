"""Public. Ready-made tasks: what calls ask for most, each with a typed result. LiveKit's ready-made tasks.

    get_email = tasks.get_email()
    desk = Agent("desk", instructions="...", tools=[book], tasks=[get_email])
    graph = create_voice_graph([desk, get_email])

What was spoken is read back and confirmed, what was typed is not. Texts are in English, and each can be replaced.
"""

from graph_voice.tasks.address import Address, get_address
from graph_voice.tasks.common import TaskOptions
from graph_voice.tasks.credit_card import CreditCard, get_credit_card
from graph_voice.tasks.date_of_birth import DateOfBirth, get_date_of_birth
from graph_voice.tasks.digits import Digits, SecretDigits, get_digits, get_secret_digits
from graph_voice.tasks.email import Email, get_email
from graph_voice.tasks.name import Name, get_name
from graph_voice.tasks.phone_number import PhoneNumber, get_phone_number

__all__ = [
    "Address",
    "CreditCard",
    "DateOfBirth",
    "Digits",
    "Email",
    "Name",
    "PhoneNumber",
    "SecretDigits",
    "TaskOptions",
    "get_address",
    "get_credit_card",
    "get_date_of_birth",
    "get_digits",
    "get_email",
    "get_name",
    "get_phone_number",
    "get_secret_digits",
]
