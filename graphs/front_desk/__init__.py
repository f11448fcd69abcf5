"""Juniper House, a physiotherapy practice on the phone: a front desk that books visits in a calendar."""
