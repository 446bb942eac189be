"""Runs behind an HTTP API that other people's programs speak, and a page to play with them.

app         routes                              guard      keys, Host headers, the shape of errors
openai      what is asked for, and responses    requests   the JSON of what is asked for
fields      JSON objects, field by field        search     beam search, step by step
scheduler   one queue, one thread               streams    texts that step together
completing  what a completion has to compute    library    the runs, loaded when asked for
service     routes to scheduler and back        replies    JSON and server-sent events
limits      bounds of requests                  metrics    for Prometheus
running     the server as a process             playground the routes of the page in static/
typed       what comes next, as one types       why        what came before was worth
quotes      what stands in the training text    errors     what clients are told
"""
