import os
from urllib.parse import urlsplit

import requests
from flask import Flask
from flask import redirect

from flask_llm_cost import LlmCost
from flask_llm_cost.testing import fake_provider

KEY = os.environ.get("OPENAI_API_KEY")  # without one, a fake provider answers
URL = "https://api.openai.com" if KEY else fake_provider()

app = Flask(__name__)
app.config["LLM_COST_PROVIDER_HOSTS"] = {urlsplit(URL).netloc: "openai"}
llm_cost = LlmCost(app, instrument=True)
app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix="/llm-costs")


@app.get("/")
def ask():
    question = {"role": "user", "content": "What is a ledger?"}
    with llm_cost.tags(feature="quickstart"):
        answer = requests.post(
            f"{URL}/v1/chat/completions",
            headers={"Authorization": f"Bearer {KEY}"},
            json={"model": "gpt-4o-mini", "messages": [question]},
            timeout=60,
        )
    answer.raise_for_status()
    llm_cost.flush()
    return redirect("/llm-costs/calls")
