"""An agent with Anthropic's SDK that does not wait inside a tool call: it hears that people were asked, ends its turn, and is
told later what they decided.

usage: anthropic_messages.py CONVERSATION TASK
"""

import os
import sys

import anthropic
from openexec import Client, Tools

# How long one waits for people before the user hears that it is still open.
WAIT_SECONDS = float(os.environ.get("WAIT_SECONDS", "3600"))
RULES = "You work with tools. People must approve what you ask for. Say what happened, and nothing that a tool did not say."


def turn(model, messages, tools):
    """Until the model says something. Gives that, and the ids of what is pending or not done."""
    pending = []
    for _ in range(20):
        answer = model.messages.create(
            model=os.environ.get("MODEL", "claude-sonnet-4-5"), max_tokens=2000, system=RULES, messages=messages, tools=tools.list("anthropic")
        )
        messages.append({"role": "assistant", "content": answer.content})
        results = []
        for block in answer.content:
            if block.type == "tool_use":
                told = tools.run(block.name, block.input, block.id)
                results.append({"type": "tool_result", "tool_use_id": block.id, "content": told.text, "is_error": told.is_error})
                pending += [told.id] if told.is_open else []
        if not results:
            return "".join(block.text for block in answer.content if block.type == "text"), pending
        messages.append({"role": "user", "content": results})
    sys.exit("the model does not come to an end")


def main(conversation, task):
    model, tools = anthropic.Anthropic(), Tools(Client(), conversation, justification=task)
    messages = [{"role": "user", "content": task}]
    said, pending = turn(model, messages, tools)
    while pending:
        print(said, flush=True)
        # Here an agent that serves others would keep the ids, and come back when one of them is decided.
        answers = {id: tools.answer_of(id, wait_seconds=WAIT_SECONDS) for id in pending}
        still = [id for id, answer in answers.items() if answer.is_open]
        said = "Still open: " + " ".join(still)
        if len(still) < len(pending):
            news = "\n".join(answer.text for answer in answers.values())
            messages.append({"role": "user", "content": "What became of what you asked for: " + news})
            said, more = turn(model, messages, tools)
            still += [id for id in more if id not in still]
        pending = still
    print(said)


if __name__ == "__main__":
    main(*sys.argv[1:])
