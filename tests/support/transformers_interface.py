"""What classes of transformers 4.57.6 have in public and ours do not, each with the reason.

Every other public attribute and argument exists in ours. Arguments of ``from_pretrained`` and ``save_pretrained`` are
in ``wav2vec2_core.loading_options``.
"""

_PARTS = "of models of several parts"
_PARALLEL = "parallel execution is that of PyTorch: tensor and pipeline plans are of transformers' own"
_GENERATION = "nothing is generated: there is no decoder"
_CHAT = "of language models that hold conversations"
_AUTO = "registers code that comes with a model, which is never run here"
_PEFT = "adapters of peft are attached by peft's own functions"
_TOKENS = "there are no embeddings of tokens; load_adapter and from_pretrained change the size of lm_head"
_MEMORY = "tools of PyTorch and of the operating system measure memory"
_MASKS = "masks are made where they are used, in layers.py"
_INTERNAL = "how transformers builds its own classes"

CONFIG = {
    "base_model_ep_plan": _PARALLEL, "base_model_pp_plan": _PARALLEL, "base_model_tp_plan": _PARALLEL,
    "dict_dtype_to_str": _INTERNAL, "has_no_defaults_at_init": _INTERNAL, "from_text_audio_configs": _PARTS,
    "from_text_vision_configs": _PARTS, "register_for_auto_class": _AUTO,
    "update_from_string": "update takes a dictionary",
}  # fmt: skip
TOKENIZER = {
    "apply_chat_template": _CHAT, "encode_message_with_chat_template": _CHAT, "get_chat_template": _CHAT,
    "save_chat_templates": _CHAT, "register_for_auto_class": _AUTO, "convert_added_tokens": _INTERNAL,
    "pretrained_vocab_files_map": _INTERNAL, "slow_tokenizer_class": "there is one tokenizer",
    "prepare_for_tokenization": _INTERNAL, "prepare_seq2seq_batch": "deprecated there; __call__ has text_target",
    "sanitize_special_tokens": "deprecated there; special tokens are always in the vocabulary",
    "truncate_sequences": "__call__ and prepare_for_model cut",
}  # fmt: skip
FEATURE_EXTRACTOR = {"register_for_auto_class": _AUTO}
PROCESSOR = {
    "apply_chat_template": _CHAT, "check_argument_for_proper_class": _INTERNAL, "from_args_and_dict": _INTERNAL,
    "get_possibly_dynamic_module": _AUTO, "get_processor_dict": _INTERNAL, "optional_attributes": _CHAT,
    "optional_call_args": _INTERNAL, "post_process_image_text_to_text": _PARTS, "register_for_auto_class": _AUTO,
    "valid_processor_kwargs": _INTERNAL, "validate_init_kwargs": _INTERNAL,
}  # fmt: skip
TORCH_MODEL = {
    "active_adapters": _PEFT, "add_adapter": _PEFT, "delete_adapter": _PEFT, "disable_adapters": _PEFT,
    "enable_adapters": _PEFT, "get_adapter_state_dict": _PEFT, "set_adapter": _PEFT,
    "add_memory_hooks": _MEMORY, "reset_memory_hooks_state": _MEMORY, "get_memory_footprint": _MEMORY,
    "can_record_outputs": _INTERNAL, "get_init_context": _INTERNAL, "init_weights": _INTERNAL,
    "initialize_weights": _INTERNAL, "is_backend_compatible": _INTERNAL, "loss_function": _INTERNAL,
    "post_init": _INTERNAL, "get_correct_attn_implementation": _INTERNAL, "retrieve_modules_from_names": _INTERNAL,
    "get_parameter_or_buffer": "get_parameter: there are no buffers",
    "create_extended_attention_mask_for_decoder": _MASKS, "get_extended_attention_mask": _MASKS,
    "get_head_mask": _MASKS, "invert_attention_mask": _MASKS, "warn_if_padding_and_no_attention_mask": _MASKS,
    "dequantize": "weights are not quantised", "dummy_inputs": "of token ids",
    "disable_input_require_grads": _TOKENS, "enable_input_require_grads": _TOKENS, "get_input_embeddings": _TOKENS,
    "set_input_embeddings": _TOKENS, "set_output_embeddings": _TOKENS, "resize_token_embeddings": _TOKENS,
    "get_position_embeddings": _TOKENS, "resize_position_embeddings": _TOKENS,
    "tie_embeddings_and_encoder_decoder": _TOKENS,
    "estimate_tokens": "Trainer does without", "floating_point_ops": "Trainer does without",
    "get_compiled_call": "torch.compile(model)", "get_decoder": _GENERATION, "set_decoder": _GENERATION,
    "is_parallelizable": _PARALLEL, "pp_plan": _PARALLEL, "supports_pp_plan": _PARALLEL,
    "supports_tp_plan": _PARALLEL, "tp_plan": _PARALLEL, "tp_size": _PARALLEL,
    "kernelize": "kernels of the hub are not run", "use_kernels": "kernels of the hub are not run",
    "model_tags": "no model card is written", "prune_heads": "not there for these models either",
    "register_for_auto_class": _AUTO, "reverse_bettertransformer": "of a library of its own",
    "to_bettertransformer": "of a library of its own",
}  # fmt: skip
TF_MODEL = {
    **dict.fromkeys(
        ("beam_search", "compute_transition_scores", "contrastive_search", "generate", "greedy_search", "sample",
         "prepare_inputs_for_generation", "seed_generator", "supports_xla_generation"), _GENERATION),
    **dict.fromkeys(
        ("get_bias", "get_lm_head", "get_output_layer_with_bias", "get_prefix_bias_name", "get_input_embeddings",
         "resize_token_embeddings", "set_bias", "set_input_embeddings", "set_output_embeddings"), _TOKENS),
    "build_in_name_scope": "layers are built by their constructors", "create_model_card": "no model card is written",
    "dummy_inputs": "layers are built by their constructors", "get_head_mask": _MASKS,
    "get_label_to_output_name_mapping": _INTERNAL, "input_signature": "export takes input_signature",
    "prepare_tf_dataset": "needs transformers' data collators", "prune_heads": "not there for these models either",
    "register_for_auto_class": _AUTO, "serving": "export_saved_model", "serving_output": "export_saved_model",
}  # fmt: skip

#: (class without framework prefix, method, argument) that ours do not take.
ARGUMENTS = {
    ("Config", "from_dict", "config_dict"): "the first argument, called values",
    ("FeatureExtractor", "from_dict", "feature_extractor_dict"): "the first argument, called values",
    ("Config", "get_text_config", "encoder"): _PARTS,
    ("Processor", "to_dict", "legacy_serialization"): "files for transformers 4 and 5 are written",
    ("Processor", "to_json_file", "legacy_serialization"): "files for transformers 4 and 5 are written",
    ("Processor", "to_json_string", "legacy_serialization"): "files for transformers 4 and 5 are written",
    ("Processor", "__call__", "images"): _PARTS,
    ("Processor", "__call__", "videos"): _PARTS,
    ("ForCTC", "__init__", "target_lang"): "adapters are loaded by from_pretrained and load_adapter",
}
