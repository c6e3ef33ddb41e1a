"""An agent with the OpenAI Agents SDK: each of the service's tools is a FunctionTool whose call waits for people.

usage: openai_agents_sdk.py CONVERSATION TASK
"""

import asyncio
import os
import sys

from agents import Agent, FunctionTool, Runner, set_tracing_disabled
from openexec import Client, Tools

# How long one waits for people before the user hears that it is still open.
WAIT_SECONDS = float(os.environ.get("WAIT_SECONDS", "3600"))
RULES = "You work with tools. People must approve what you ask for. Say what happened, and nothing that a tool did not say."


def function_tool(tools, listed, pending):
    async def call(context, arguments):
        # A thread of its own: other tools go on while this one waits.
        answer = await asyncio.to_thread(tools.run, listed["name"], arguments, context.tool_call_id)
        if answer.is_open and answer.id not in pending:
            pending.append(answer.id)
        return answer.text

    return FunctionTool(
        name=listed["name"], description=listed["description"], params_json_schema=listed["parameters"],
        on_invoke_tool=call, strict_json_schema=False,
    )


def main(conversation, task):
    # Its traces would go to OpenAI, arguments and all.
    set_tracing_disabled(True)
    # A person is asked. The same conversation again, after a crash, takes up the same proposals.
    tools, pending = Tools(Client(), conversation, wait_seconds=WAIT_SECONDS, justification=task), []
    agent = Agent(
        name="refunds", instructions=RULES, model=os.environ.get("MODEL", "gpt-5"),
        tools=[function_tool(tools, listed, pending) for listed in tools.list("openai-responses")],
    )
    done = Runner.run_sync(agent, task)
    print(done.final_output, flush=True)
    while pending:
        answers = [tools.answer_of(id, wait_seconds=WAIT_SECONDS) for id in pending]
        before, pending[:] = len(pending), [answer.id for answer in answers if answer.is_open]
        if len(pending) == before:
            print("Still open: " + " ".join(pending), flush=True)
            continue
        news = "What became of what you asked for: " + "\n".join(answer.text for answer in answers)
        done = Runner.run_sync(agent, done.to_input_list() + [{"role": "user", "content": news}])
        print(done.final_output, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
