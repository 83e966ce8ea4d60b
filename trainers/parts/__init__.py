"""What trainers are put together from: each module is one part, usable and testable without a trainer.

From the settings to the scores:

    options, rules          the settings of a method, and what each may be
    backbone                the frozen CLIP, in the arithmetic that was asked for
    class_words             whether that CLIP can tell the classes apart by their names
    prompts, fixed_tokens   the learned context, and the words around it
    hand_written            prompts that people wrote, and CLIP without training
    model                   the common half of all prompt models
    local_projection        a learned map of the places
    checkpoints, starts     what was learned, read back and checked; where a run starts from

The trainers (`trainers.clip_trainer` and the methods' own folders) hold these parts; no part knows a trainer.
"""
