"""The modules that declare handlers of jobs, from the one list of slices. Importing this declares all handlers."""

from dues.slices import load

MODULES = tuple(load("jobs"))
