"""Runs behind OpenAI's HTTP API, and a page to play with them.

app         the routes                          guard       keys, Host headers, errors, the log
openai      requests and responses as values    requests    the JSON of requests
fields      JSON objects, field by field        replies     JSON and server-sent events
service     from the routes to the scheduler    scheduler   one queue, one thread
completing  the tasks of a completion           streams     texts that step together
library     the runs, loaded when asked for     search      beam search, step by step
limits      bounds of requests                  metrics     for Prometheus
running     the server as a process             errors      what clients receive
playground  the routes of the page in static/   expect  why  evidence  quotes  guessing: what they say
"""
