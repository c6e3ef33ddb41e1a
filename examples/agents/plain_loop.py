"""An agent of the standard library and the client: a loop over chat completions that waits for people inside the tool call.

usage: plain_loop.py CONVERSATION TASK
"""

import json
import os
import sys
import urllib.request

from openexec import Client, Tools

# How long one waits for people before the user hears that it is still open.
WAIT_SECONDS = float(os.environ.get("WAIT_SECONDS", "3600"))
RULES = "You work with tools. People must approve what you ask for. Say what happened, and nothing that a tool did not say."


def complete(messages, tools):
    body = {"model": os.environ.get("MODEL", "gpt-5"), "messages": messages, "tools": tools}
    head = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1") + "/chat/completions"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), head), timeout=600) as answer:
        return json.load(answer)["choices"][0]["message"]


def decided(tools, pending):
    """Waits until one of them is. Those that are not stay in `pending`."""
    while True:
        answers = [tools.answer_of(id, wait_seconds=WAIT_SECONDS) for id in pending]
        before, pending[:] = len(pending), [answer.id for answer in answers if answer.is_open]
        if len(pending) < before:
            return "\n".join(answer.text for answer in answers)
        print("Still open: " + " ".join(pending), flush=True)


def main(conversation, task):
    # A person is asked. The same conversation again, after a crash, takes up the same proposals.
    tools = Tools(Client(), conversation, wait_seconds=WAIT_SECONDS, justification=task)
    messages = [{"role": "system", "content": RULES}, {"role": "user", "content": task}]
    pending = []
    for _ in range(20):
        message = complete(messages, tools.list("openai"))
        messages.append(message)
        for call in message.get("tool_calls") or []:
            told = tools.run(call["function"]["name"], call["function"]["arguments"], call["id"])
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": told.text})
            pending += [told.id] if told.is_open and told.id not in pending else []
        if message.get("tool_calls"):
            continue
        print(message["content"], flush=True)
        if not pending:
            return
        messages.append({"role": "user", "content": "What became of what you asked for: " + decided(tools, pending)})
    sys.exit("the model does not come to an end")


if __name__ == "__main__":
    main(*sys.argv[1:])
