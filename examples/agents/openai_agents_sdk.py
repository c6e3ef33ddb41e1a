"""An agent with the OpenAI Agents SDK: each of the service's tools is a FunctionTool whose call waits for people.

usage: openai_agents_sdk.py CONVERSATION TASK
"""

import asyncio
import os
import sys

from agents import Agent, FunctionTool, Runner, set_tracing_disabled
from openexec import Client, Tools

RULES = "You work with tools. People must approve what you ask for. Say what happened, and nothing that a tool did not say."


def function_tool(tools, listed):
    async def call(context, arguments):
        # A thread of its own: other tools go on while this one waits.
        answer = await asyncio.to_thread(tools.run, listed["name"], arguments, context.tool_call_id)
        return answer.text

    return FunctionTool(
        name=listed["name"], description=listed["description"], params_json_schema=listed["parameters"],
        on_invoke_tool=call, strict_json_schema=False,
    )


def main(conversation, task):
    # Its traces would go to OpenAI, arguments and all.
    set_tracing_disabled(True)
    # An hour: a person is asked. The same conversation again, after a crash, takes up the same proposals.
    tools = Tools(Client(), conversation, wait_seconds=3600, justification=task)
    agent = Agent(
        name="refunds", instructions=RULES, model=os.environ.get("MODEL", "gpt-5"),
        tools=[function_tool(tools, listed) for listed in tools.list("openai-responses")],
    )
    print(Runner.run_sync(agent, task).final_output)


if __name__ == "__main__":
    main(*sys.argv[1:])
