"""What a person starts: one flow a file."""

FLOWS = {
    "deft-pipeline": "flows.pipeline:deft_pipeline",
    "nightly": "flows.nightly:nightly",
    "automl": "flows.automl:automl",
    "deft-aoi": "flows.deft_aoi:deft_aoi",
    "classifier-loop": "flows.classifier_loop:classifier_loop",
    "gap-analysis-vcn": "flows.gap_analysis_vcn:gap_analysis_vcn",
    "gap-analysis-vlm-bcq": "flows.gap_analysis_vlm_bcq:gap_analysis_vlm_bcq",
    "spot-check": "flows.spot_check:spot_check",
    "mine-aoi-images": "flows.mine_aoi_images:mine_aoi_images",
    "finetune-huggingface": "flows.finetune_huggingface:finetune_huggingface",
    "run-action": "flows.run_action:run_action",
}
"""Every flow by its name, with where its code lies."""
