"""Elm Street Clinic on the phone: triage, patient support and billing, each with a handoff to the others."""
