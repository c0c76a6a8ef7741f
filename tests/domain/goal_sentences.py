"""60 goal sentences with what they ask for, read at NOW, a Wednesday.

FIRST was at hand while the reader was written. SECOND was written before the reader too, and never
looked at while it was: what the reader makes of it is what it makes of words it was not made for.

Each sentence stands with the fields that it says; a field that is not named was not said. `missing`
is what has to be asked back: without another word, nothing is missing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

NOW: Final = datetime(2026, 11, 18, 10, tzinfo=UTC)
FIELDS: Final = (
    "jobType",
    "gpuType",
    "gpuCount",
    "maxHours",
    "budgetTotal",
    "deadline",
    "preference",
    "excludedVendors",
    "missing",
)
NO_BUDGET: Final = ["budgetTotal"]

Sentence = tuple[str, dict[str, Any]]

FIRST: Final[tuple[Sentence, ...]] = (
    (
        "Fine-tune Llama 8B on an A100 for about two hours, keep it under $5, cheapest you can "
        "find by tonight",
        {
            "jobType": "fine-tune",
            "gpuType": "A100",
            "gpuCount": 1,
            "maxHours": 2,
            "budgetTotal": 5,
            "deadline": "2026-11-18T23:59:00+00:00",
            "preference": "cheapest",
        },
    ),
    (
        "Train a ResNet on 8xH100 for 3 hours, max $60",
        {"jobType": "training", "gpuType": "H100", "gpuCount": 8, "maxHours": 3, "budgetTotal": 60},
    ),
    (
        "I need a 24GB card to serve Mistral 7B for half an hour, two bucks at most",
        {
            "jobType": "inference",
            "gpuType": "RTX4090",
            "gpuCount": 1,
            "maxHours": 0.5,
            "budgetTotal": 2,
        },
    ),
    (
        "run lora finetuning of qwen 2.5 14b on a single h100, 30 epochs, budget 12 USDC",
        {"jobType": "fine-tune", "gpuType": "H100", "gpuCount": 1, "budgetTotal": 12},
    ),
    (
        "Rent two A100s until 6pm, no vendor X, 7.50 USD",
        {
            "gpuType": "A100",
            "gpuCount": 2,
            "budgetTotal": 7.5,
            "deadline": "2026-11-18T18:00:00+00:00",
            "excludedVendors": ["X"],
        },
    ),
    (
        "Benchmark my kernels on an RTX 4090, 45 minutes, 50 cents, as fast as possible",
        {
            "jobType": "evaluation",
            "gpuType": "RTX4090",
            "gpuCount": 1,
            "maxHours": 0.75,
            "budgetTotal": 0.5,
            "preference": "fastest",
        },
    ),
    (
        "Please render the teaser on 4 L40S, within 6 hours, five dollars tops",
        {
            "jobType": "rendering",
            "gpuType": "L40S",
            "gpuCount": 4,
            "budgetTotal": 5,
            "deadline": "2026-11-18T16:00:00+00:00",
        },
    ),
    (
        "Fine-tune a 7B model on an 80 GB GPU at no more than $2/hour for 3h",
        {
            "jobType": "fine-tune",
            "gpuType": "A100",
            "gpuCount": 1,
            "maxHours": 3,
            "missing": NO_BUDGET,
        },
    ),
    (
        "Train on H100 x4 overnight, up to $40 or maybe $50",
        {"jobType": "training", "gpuType": "H100", "gpuCount": 4, "missing": NO_BUDGET},
    ),
    (
        "Evaluate the v2 checkpoint on a T4 for 20 min. Budget: $1.25. Avoid vendor 1 and vendor "
        "3.",
        {
            "jobType": "evaluation",
            "gpuType": "T4",
            "gpuCount": 1,
            "maxHours": 20 / 60,
            "budgetTotal": 1.25,
            "excludedVendors": ["gpu_vendor_1", "gpu_vendor_3"],
        },
    ),
    (
        "pretrain a tiny GPT for a day and a half on eight A100s before Friday, $300 limit",
        {
            "jobType": "training",
            "gpuType": "A100",
            "gpuCount": 8,
            "maxHours": 36,
            "budgetTotal": 300,
            "deadline": "2026-11-20T00:00:00+00:00",
        },
    ),
    (
        "Most reliable provider please: batch inference, 1 x L4, 5 hours, I can pay 4 dollars",
        {
            "jobType": "inference",
            "gpuType": "L4",
            "gpuCount": 1,
            "maxHours": 5,
            "budgetTotal": 4,
            "preference": "reliable",
        },
    ),
    (
        "Fine-tune whisper on an A10G for 90 minutes but not gpu_vendor_2, spend at most 3.20",
        {
            "jobType": "fine-tune",
            "gpuType": "A10G",
            "gpuCount": 1,
            "maxHours": 1.5,
            "budgetTotal": 3.2,
            "excludedVendors": ["gpu_vendor_2"],
        },
    ),
    (
        "Last time I paid $12 for this. Train on an A100 again for 2 hours, this time under $8",
        {"jobType": "training", "gpuType": "A100", "gpuCount": 1, "maxHours": 2, "budgetTotal": 8},
    ),
    (
        "Train for 100 epochs on a V100",
        {"jobType": "training", "gpuType": "V100", "gpuCount": 1, "missing": NO_BUDGET},
    ),
    (
        "H200, 2h, $9, by tomorrow noon",
        {
            "gpuType": "H200",
            "gpuCount": 1,
            "maxHours": 2,
            "budgetTotal": 9,
            "deadline": "2026-11-19T12:00:00+00:00",
        },
    ),
    (
        "serve llama-3-70b on 2×H100 for 1h30, USD 20",
        {
            "jobType": "inference",
            "gpuType": "H100",
            "gpuCount": 2,
            "maxHours": 1.5,
            "budgetTotal": 20,
        },
    ),
    (
        "Quick LoRA run, any 48 GB GPU, twenty-five dollars, done by 2026-11-20T18:00Z",
        {
            "jobType": "fine-tune",
            "gpuType": "A6000",
            "gpuCount": 1,
            "budgetTotal": 25,
            "deadline": "2026-11-20T18:00:00+00:00",
        },
    ),
    (
        "Generate 500 images with SDXL on a 3090 for 40 minutes, low cost, under 1 dollar",
        {
            "jobType": "inference",
            "gpuType": "RTX3090",
            "gpuCount": 1,
            "maxHours": 40 / 60,
            "budgetTotal": 1,
            "preference": "cheapest",
        },
    ),
    (
        "Can you fine tune Phi-3 mini for me?",
        {"jobType": "fine-tune", "missing": NO_BUDGET},
    ),
    (
        "I've got 10 bucks and need an A6000 for four hours of training, the sooner the better",
        {
            "jobType": "training",
            "gpuType": "A6000",
            "gpuCount": 1,
            "maxHours": 4,
            "budgetTotal": 10,
            "preference": "fastest",
        },
    ),
    (
        "Spend no more than $1,200 on 16 H100s for 12 hours of pre-training, deadline Monday",
        {
            "jobType": "training",
            "gpuType": "H100",
            "gpuCount": 16,
            "maxHours": 12,
            "budgetTotal": 1200,
            "deadline": "2026-11-23T23:59:00+00:00",
        },
    ),
    (
        "Fine-tune on an A100 for 2 hours for €5",
        {
            "jobType": "fine-tune",
            "gpuType": "A100",
            "gpuCount": 1,
            "maxHours": 2,
            "missing": NO_BUDGET,
        },
    ),
    (
        "evaluate my fine-tuned 13B on A100, two and a half hours, not more than 6 usd, "
        "don't use FastGPU",
        {
            "jobType": "evaluation",
            "gpuType": "A100",
            "gpuCount": 1,
            "maxHours": 2.5,
            "budgetTotal": 6,
            "excludedVendors": ["FastGPU"],
        },
    ),
    (
        "Train a 1.3B model with batch size 32 on 2 A100 for 10 hours; the whole thing has to stay "
        "below 30 dollars and be finished by Sunday 8pm",
        {
            "jobType": "training",
            "gpuType": "A100",
            "gpuCount": 2,
            "maxHours": 10,
            "budgetTotal": 30,
            "deadline": "2026-11-22T20:00:00+00:00",
        },
    ),
    (
        "$2.50 an hour is fine, $10 in total: H100 for inference",
        {"jobType": "inference", "gpuType": "H100", "gpuCount": 1, "budgetTotal": 10},
    ),
    ("$5", {"budgetTotal": 5, "missing": ["jobType"]}),
    (
        "Need dependable hardware: B200, 6 hours, training, budget of 55",
        {
            "jobType": "training",
            "gpuType": "B200",
            "gpuCount": 1,
            "maxHours": 6,
            "budgetTotal": 55,
            "preference": "reliable",
        },
    ),
    (
        "Render on a GPU with at least 16 GB VRAM for an hour and a half, cap it at $0.80",
        {
            "jobType": "rendering",
            "gpuType": "T4",
            "gpuCount": 1,
            "maxHours": 1.5,
            "budgetTotal": 0.8,
        },
    ),
    ("hello there", {"missing": ["jobType", "budgetTotal"]}),
)

SECOND: Final[tuple[Sentence, ...]] = (
    (
        "Could you get me an H100 for three hours? I'd like to train a diffusion model and can't "
        "spend over 15 dollars.",
        {"jobType": "training", "gpuType": "H100", "gpuCount": 1, "maxHours": 3, "budgetTotal": 15},
    ),
    (
        "finetune gemma-2-9b, 4 x A100 80GB, 2 days, 200 USDC max",
        {
            "jobType": "fine-tune",
            "gpuType": "A100",
            "gpuCount": 4,
            "maxHours": 48,
            "budgetTotal": 200,
        },
    ),
    (
        "Serve our chatbot for the next 8 hours on an L40S. Our ceiling is $11.",
        {
            "jobType": "inference",
            "gpuType": "L40S",
            "gpuCount": 1,
            "maxHours": 8,
            "budgetTotal": 11,
        },
    ),
    (
        "whatever is cheapest: one A10, 30 minutes of evaluation, a dollar",
        {
            "jobType": "evaluation",
            "gpuType": "A10",
            "gpuCount": 1,
            "maxHours": 0.5,
            "budgetTotal": 1,
            "preference": "cheapest",
        },
    ),
    (
        "Train my classifier before noon tomorrow on a pair of RTX 3090s; budget is USD 4.75",
        {
            "jobType": "training",
            "gpuType": "RTX3090",
            "gpuCount": 2,
            "budgetTotal": 4.75,
            "deadline": "2026-11-19T12:00:00+00:00",
        },
    ),
    (
        "I want to run inference with a 70B model on 2 GPUs of 80GB each, limit 18 bucks, 4h",
        {
            "jobType": "inference",
            "gpuType": "A100",
            "gpuCount": 2,
            "maxHours": 4,
            "budgetTotal": 18,
        },
    ),
    (
        "Fine-tuning job. GPU: H100. Time: 2.5 hours. Money: $14. Vendor: anyone except "
        "gpu_vendor_1.",
        {
            "jobType": "fine-tune",
            "gpuType": "H100",
            "gpuCount": 1,
            "maxHours": 2.5,
            "budgetTotal": 14,
            "excludedVendors": ["gpu_vendor_1"],
        },
    ),
    (
        "Rent me a 4090 for the cheapest price, 3 hrs",
        {
            "gpuType": "RTX4090",
            "gpuCount": 1,
            "maxHours": 3,
            "preference": "cheapest",
            "missing": NO_BUDGET,
        },
    ),
    (
        "Benchmark vLLM throughput on an H200 within the next two hours, don't go above $7",
        {
            "jobType": "evaluation",
            "gpuType": "H200",
            "gpuCount": 1,
            "budgetTotal": 7,
            "deadline": "2026-11-18T12:00:00+00:00",
        },
    ),
    (
        "Train for 12 hours on 8 GPUs, A100 if possible, somewhere between $80 and $120",
        {
            "jobType": "training",
            "gpuType": "A100",
            "gpuCount": 8,
            "maxHours": 12,
            "budgetTotal": 120,
        },
    ),
    (
        "We have a grant of $500 in compute and want to pretrain a 3B model on 8xA100 for 20 hours",
        {
            "jobType": "training",
            "gpuType": "A100",
            "gpuCount": 8,
            "maxHours": 20,
            "missing": NO_BUDGET,
        },
    ),
    (
        "hey, quick question: could you render scene 12 on an A40 for 25 mins? max five USDC. "
        "reliability matters more than price",
        {
            "jobType": "rendering",
            "gpuType": "A40",
            "gpuCount": 1,
            "maxHours": 25 / 60,
            "budgetTotal": 5,
            "preference": "reliable",
        },
    ),
    (
        "LoRA on Llama 3.1 8B, A100, one hour, cost must not exceed 3 dollars and 50 cents",
        {
            "jobType": "fine-tune",
            "gpuType": "A100",
            "gpuCount": 1,
            "maxHours": 1,
            "budgetTotal": 3.5,
        },
    ),
    (
        "Get it trained by Friday evening on any 40GB card, total spend capped at $22",
        {
            "jobType": "training",
            "gpuType": "A100",
            "gpuCount": 1,
            "budgetTotal": 22,
            "deadline": "2026-11-20T20:00:00+00:00",
        },
    ),
    (
        "Train 3 epochs, learning rate 5, seed 42, on a V100 for 6 hours",
        {
            "jobType": "training",
            "gpuType": "V100",
            "gpuCount": 1,
            "maxHours": 6,
            "missing": NO_BUDGET,
        },
    ),
    (
        "I'm in a hurry! H100, 45 min, inference, $6",
        {
            "jobType": "inference",
            "gpuType": "H100",
            "gpuCount": 1,
            "maxHours": 0.75,
            "budgetTotal": 6,
            "preference": "fastest",
        },
    ),
    (
        "Fine-tune Llama on a machine that costs less than $3 per hour, and stop at $9 overall",
        {"jobType": "fine-tune", "budgetTotal": 9},
    ),
    (
        "evaluation of 5 checkpoints on a t4, roughly 2 hours each vendor but vendor 2, $2",
        {
            "jobType": "evaluation",
            "gpuType": "T4",
            "gpuCount": 1,
            "maxHours": 2,
            "budgetTotal": 2,
            "excludedVendors": ["gpu_vendor_2"],
        },
    ),
    (
        "Training run: 64 x H100 for 36h; budget 6,400 dollars; finish by 2026-11-25",
        {
            "jobType": "training",
            "gpuType": "H100",
            "gpuCount": 64,
            "maxHours": 36,
            "budgetTotal": 6400,
            "deadline": "2026-11-25T23:59:00+00:00",
        },
    ),
    (
        "My budget is five dollars, actually make that eight dollars, for an A100 to fine-tune on",
        {"jobType": "fine-tune", "gpuType": "A100", "gpuCount": 1, "missing": NO_BUDGET},
    ),
    (
        "Use an L4 for a few minutes",
        {"gpuType": "L4", "gpuCount": 1, "missing": NO_BUDGET},
    ),
    (
        "Transcribe 200 hours of audio with Whisper on an RTX4090 for 3 hours, 2.5 USD",
        {
            "jobType": "inference",
            "gpuType": "RTX4090",
            "gpuCount": 1,
            "maxHours": 3,
            "budgetTotal": 2.5,
        },
    ),
    (
        "Six hours of MI300X, training, no more than ninety dollars, nothing from ReliableGPU",
        {
            "jobType": "training",
            "gpuType": "MI300X",
            "gpuCount": 1,
            "maxHours": 6,
            "budgetTotal": 90,
            "excludedVendors": ["ReliableGPU"],
        },
    ),
    (
        "fine-tune a vision model on an A100 for 100 minutes with $4.20, ready by end of day",
        {
            "jobType": "fine-tune",
            "gpuType": "A100",
            "gpuCount": 1,
            "maxHours": 100 / 60,
            "budgetTotal": 4.2,
            "deadline": "2026-11-18T23:59:00+00:00",
        },
    ),
    (
        "An A100-SXM costs $15,000; rent one instead for 2 hours, for at most $4",
        {"gpuType": "A100", "gpuCount": 1, "maxHours": 2, "budgetTotal": 4},
    ),
    (
        "train something on 3 T4s for ten hours, exclude gpu_vendor_3, keep the bill under 9 usdc, "
        "by Saturday",
        {
            "jobType": "training",
            "gpuType": "T4",
            "gpuCount": 3,
            "maxHours": 10,
            "budgetTotal": 9,
            "deadline": "2026-11-21T23:59:00+00:00",
            "excludedVendors": ["gpu_vendor_3"],
        },
    ),
    (
        "Do a fine-tune within a day, $30 all in, a hundred thousand samples, GH200",
        {
            "jobType": "fine-tune",
            "gpuType": "GH200",
            "gpuCount": 1,
            "budgetTotal": 30,
            "deadline": "2026-11-19T10:00:00+00:00",
        },
    ),
    (
        "what would 2 hours on a B200 cost?",
        {"gpuType": "B200", "gpuCount": 1, "maxHours": 2, "missing": NO_BUDGET},
    ),
    (
        "Serving, 1 hour, 5 dollars, safest vendor, 141GB GPU",
        {
            "jobType": "inference",
            "gpuType": "H200",
            "gpuCount": 1,
            "maxHours": 1,
            "budgetTotal": 5,
            "preference": "reliable",
        },
    ),
    ("I have 20 dollars.", {"budgetTotal": 20, "missing": ["jobType"]}),
)
