"""An agent with LangChain's models and LangGraph: what is pending interrupts the graph, and what people decided resumes it.

The graph runs a node again from its beginning when it resumes. That does no harm here: the same tool call is the same proposal.

usage: langgraph_interrupt.py CONVERSATION TASK
"""

import os
import sys

from langchain_core.messages import SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from openexec import Client, Tools

# How long one waits for people before the user hears that it is still open.
WAIT_SECONDS = float(os.environ.get("WAIT_SECONDS", "3600"))
RULES = "You work with tools. People must approve what you ask for. Say what happened, and nothing that a tool did not say."


def graph(tools, checkpointer):
    model = ChatOpenAI(model=os.environ.get("MODEL", "gpt-5")).bind_tools(tools.list("openai"))

    def think(state):
        return {"messages": [model.invoke([SystemMessage(RULES), *state["messages"]])]}

    def calls(state):
        # Arguments that are no JSON come apart from the others; the model must hear of them too.
        return [*state["messages"][-1].tool_calls, *state["messages"][-1].invalid_tool_calls]

    def act(state):
        told = []
        for call in calls(state):
            answer = tools.run(call["name"], call["args"], call["id"])
            while answer.is_open:
                # Raises, unless the graph was resumed here: then it is looked at again.
                interrupt({"proposal": answer.id})
                answer = tools.run(call["name"], call["args"], call["id"])
            told.append(ToolMessage(answer.text, tool_call_id=call["id"], status="error" if answer.is_error else "success"))
        return {"messages": told}

    made = StateGraph(MessagesState)
    made.add_node("think", think)
    made.add_node("act", act)
    made.add_edge(START, "think")
    made.add_conditional_edges("think", lambda state: "act" if calls(state) else END)
    made.add_edge("act", "think")
    return made.compile(checkpointer=checkpointer)


def main(conversation, task):
    tools = Tools(Client(), conversation, justification=task)
    # In memory, for once: one in a database outlives this process.
    agent, thread = graph(tools, InMemorySaver()), {"configurable": {"thread_id": conversation}}
    state = agent.invoke({"messages": [("user", task)]}, thread)
    while "__interrupt__" in state:
        waits = state["__interrupt__"][0].value
        print("Still open:", waits["proposal"], flush=True)
        # Here an agent that serves others would end, and be resumed when the proposal is decided.
        state = agent.invoke(Command(resume=tools.answer_of(waits["proposal"], wait_seconds=WAIT_SECONDS).state), thread)
    print(state["messages"][-1].content)


if __name__ == "__main__":
    main(*sys.argv[1:])
