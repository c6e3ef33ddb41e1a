"""An agent of the standard library and the client: a loop over chat completions that waits for people inside the tool call.

usage: plain_loop.py CONVERSATION TASK
"""

import json
import os
import sys
import urllib.request

from openexec import Client, Tools

RULES = "You work with tools. People must approve what you ask for. Say what happened, and nothing that a tool did not say."


def complete(messages, tools):
    body = {"model": os.environ.get("MODEL", "gpt-5"), "messages": messages, "tools": tools}
    head = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1") + "/chat/completions"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), head), timeout=600) as answer:
        return json.load(answer)["choices"][0]["message"]


def main(conversation, task):
    # An hour: a person is asked. The same conversation again, after a crash, takes up the same proposals.
    tools = Tools(Client(), conversation, wait_seconds=3600, justification=task)
    messages = [{"role": "system", "content": RULES}, {"role": "user", "content": task}]
    for _ in range(20):
        message = complete(messages, tools.list("openai"))
        messages.append(message)
        if not message.get("tool_calls"):
            print(message["content"])
            return
        messages += [tools.run_openai(call) for call in message["tool_calls"]]
    sys.exit("the model does not come to an end")


if __name__ == "__main__":
    main(*sys.argv[1:])
