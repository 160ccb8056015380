"""Architectures that read images."""

from __future__ import annotations

from typing import Any

from lwc.models.architectures.entry import Architecture, Input, image

_STAGES: dict[str, Any] = {"hidden_sizes": [24, 48, 64, 96], "depths": [1, 1, 2, 1]}
_ENCODER: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
_SWIN: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 24,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
_RESNET: dict[str, Any] = {
    "model_type": "resnet",
    "embedding_size": 16,
    "layer_type": "basic",
    "out_features": ["stage4"],
    **_STAGES,
}
_PYRAMID: dict[str, Any] = {
    "depths": [1, 1, 2, 1],
    "hidden_sizes": [16, 32, 48, 64],
    "num_attention_heads": [1, 2, 4, 4],
}
_DETECTOR: dict[str, Any] = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": _RESNET,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "num_queries": 10,
}

CONVOLUTIONAL = (
    Architecture("resnet-basic", "ResNetForImageClassification", image(),
        {**_STAGES, "embedding_size": 16, "layer_type": "basic"}),
    Architecture("resnet-bottleneck", "ResNetForImageClassification", image(), {**_STAGES, "embedding_size": 16}),
    Architecture(
        "regnet-x",
        "RegNetForImageClassification",
        image(),
        {**_STAGES, "embedding_size": 16, "groups_width": 8, "layer_type": "x"},
    ),
    Architecture(
        "regnet-y", "RegNetForImageClassification", image(), {**_STAGES, "embedding_size": 16, "groups_width": 8}
    ),
    Architecture("convnext", "ConvNextForImageClassification", image(), _STAGES),
    Architecture("convnextv2", "ConvNextV2ForImageClassification", image(), _STAGES),
    Architecture("mobilenet-v1", "MobileNetV1ForImageClassification", image(), {"depth_multiplier": 0.25}),
    Architecture("mobilenet-v2", "MobileNetV2ForImageClassification", image(64), {"depth_multiplier": 0.35}),
    Architecture(
        "efficientnet",
        "EfficientNetForImageClassification",
        image(64),
        {"width_coefficient": 0.35, "depth_coefficient": 0.35, "hidden_dim": 448, "image_size": 64},
    ),
    Architecture(
        "bit",
        "BitForImageClassification",
        image(),
        {"embedding_size": 16, "hidden_sizes": [32, 64, 64, 96], "depths": [1, 1, 2, 1], "num_groups": 8},
    ),
    Architecture(
        "bit-bottleneck",
        "BitForImageClassification",
        image(),
        {
            "embedding_size": 32,
            "hidden_sizes": [32, 64, 64, 96],
            "depths": [1, 1, 2, 1],
            "num_groups": 4,
            "layer_type": "bottleneck",
        },
    ),
    Architecture(
        "poolformer",
        "PoolFormerForImageClassification",
        image(),
        {"hidden_sizes": [24, 48, 64, 96], "depths": [1, 1, 1, 1]},
    ),
    Architecture(
        "focalnet",
        "FocalNetForImageClassification",
        image(),
        {"image_size": 32, "embed_dim": 24, "depths": [1, 1], "hidden_sizes": [24, 48], "focal_levels": [2, 2],
         "focal_windows": [3, 3]},
    ),
    Architecture(
        "swiftformer",
        "SwiftFormerForImageClassification",
        image(),
        {"image_size": 32, "embed_dims": [24, 32, 48, 64], "depths": [1, 1, 2, 1]},
    ),
    Architecture("dinov3-convnext", "DINOv3ConvNextModel", image(), _STAGES, output="pooler_output"),
    Architecture("textnet", "TextNetForImageClassification", image(64),
        {"stem_out_channels": 16, "hidden_sizes": [16, 24, 32, 48, 64], "image_size": [64, 64]}),
)

TRANSFORMERS = (
    Architecture("vit", "ViTForImageClassification", image(), _ENCODER),
    Architecture("deit", "DeiTForImageClassification", image(), _ENCODER),
    Architecture("vit-msn", "ViTMSNForImageClassification", image(), _ENCODER),
    Architecture("swin", "SwinForImageClassification", image(), _SWIN),
    Architecture("swinv2", "Swinv2ForImageClassification", image(), _SWIN),
    Architecture("beit", "BeitForImageClassification", image(), {**_ENCODER, "use_relative_position_bias": True}),
    Architecture("data2vec-vision", "Data2VecVisionForImageClassification", image(), _ENCODER),
    Architecture("dinov2", "Dinov2ForImageClassification", image(), {**_ENCODER, "mlp_ratio": 2}),
    Architecture(
        "dinov2-swiglu", "Dinov2ForImageClassification", image(), {**_ENCODER, "mlp_ratio": 2, "use_swiglu_ffn": True}
    ),
    Architecture("dinov2-registers", "Dinov2WithRegistersForImageClassification", image(),
        {**_ENCODER, "mlp_ratio": 2}),
    Architecture("dinov3-vit", "DINOv3ViTModel", image(),
        {**_ENCODER, "num_register_tokens": 2}, output="pooler_output"),
    Architecture("ijepa", "IJepaForImageClassification", image(), _ENCODER),
    Architecture(
        "hiera",
        "HieraForImageClassification",
        image(64),
        {"embed_dim": 24, "image_size": [64, 64], "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]},
    ),
    Architecture(
        "levit",
        "LevitForImageClassification",
        image(64),
        {"image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1],
         "key_dim": [8, 8, 8]},
    ),
    Architecture(
        "cvt",
        "CvtForImageClassification",
        image(64),
        {"embed_dim": [16, 48, 64], "num_heads": [1, 3, 4], "depth": [1, 1, 2]},
    ),
    Architecture(
        "mobilevit",
        "MobileViTForImageClassification",
        image(64),
        {"image_size": 64, "hidden_sizes": [24, 32, 48], "neck_hidden_sizes": [16, 16, 24, 32, 48, 64, 96]},
    ),
    Architecture("mobilevit-v2", "MobileViTV2ForImageClassification", image(64),
        {"image_size": 64, "width_multiplier": 0.25}),
    Architecture("pvt", "PvtForImageClassification", image(64), {"image_size": 64, **_PYRAMID}),
    Architecture("pvt-v2", "PvtV2ForImageClassification", image(64), {"image_size": 64, **_PYRAMID}),
    Architecture(
        "segformer",
        "SegformerForSemanticSegmentation",
        image(64),
        {**_PYRAMID, "decoder_hidden_size": 48, "num_labels": 5},
    ),
    Architecture("vit-mae", "ViTMAEForPreTraining", (*image(), Input("noise", (2, 16))),
        {**_ENCODER, "decoder_hidden_size": 48, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 4,
         "decoder_intermediate_size": 96}, output="logits"),
    Architecture("clip-vision", "CLIPVisionModelWithProjection", image(), {**_ENCODER, "projection_dim": 32}),
    Architecture("siglip-vision", "SiglipForImageClassification", image(),
        {"vision_config": {**_ENCODER}, "num_labels": 5}),
    Architecture("timesformer", "TimesformerForVideoClassification",
        (Input("pixel_values", (1, 4, 3, 32, 32)),), {**_ENCODER, "num_frames": 4}),
    Architecture("videomae", "VideoMAEForVideoClassification",
        (Input("pixel_values", (1, 4, 3, 32, 32)),), {**_ENCODER, "num_frames": 4}),
    Architecture("vivit", "VivitForVideoClassification",
        (Input("pixel_values", (1, 4, 3, 32, 32)),), {**_ENCODER, "num_frames": 4, "tubelet_size": [2, 8, 8]}),
)

DENSE = (
    Architecture("detr", "DetrForObjectDetection", image(64), _DETECTOR, output="logits"),
    Architecture("conditional-detr", "ConditionalDetrForObjectDetection", image(64), _DETECTOR, output="logits"),
    Architecture("deformable-detr", "DeformableDetrForObjectDetection", image(64),
        {**_DETECTOR, "num_feature_levels": 1}, output="logits"),
    Architecture("table-transformer", "TableTransformerForObjectDetection", image(64), _DETECTOR, output="pred_boxes"),
    Architecture("yolos", "YolosForObjectDetection", image(),
        {**_ENCODER, "image_size": [32, 32], "num_detection_tokens": 6}, output="logits"),
    Architecture("dpt", "DPTForDepthEstimation", image(64),
        {**_ENCODER, "num_hidden_layers": 4, "image_size": 64, "patch_size": 16, "backbone_out_indices": [0, 1, 2, 3],
         "neck_hidden_sizes": [16, 24, 32, 48], "fusion_hidden_size": 32}),
    Architecture("glpn", "GLPNForDepthEstimation", image(64),
        {**_PYRAMID, "decoder_hidden_size": 32}),
    Architecture("depth-anything", "DepthAnythingForDepthEstimation", image(56),
        {"backbone_config": {"model_type": "dinov2", "hidden_size": 48, "num_hidden_layers": 4,
            "num_attention_heads": 4, "mlp_ratio": 2, "image_size": 56, "patch_size": 14,
            "out_features": ["stage1", "stage2", "stage3", "stage4"], "reshape_hidden_states": False},
         "reassemble_hidden_size": 48, "neck_hidden_sizes": [16, 24, 32, 48], "fusion_hidden_size": 32,
         "head_hidden_size": 16}),
    Architecture("upernet", "UperNetForSemanticSegmentation", image(64),
        {"backbone_config": {"model_type": "convnext", **_STAGES,
            "out_features": ["stage1", "stage2", "stage3", "stage4"]},
         "hidden_size": 48, "use_auxiliary_head": False, "num_labels": 5}, output="logits"),
    Architecture("swin2sr", "Swin2SRForImageSuperResolution", image(16),
        {"image_size": 16, "embed_dim": 24, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "upscale": 2,
         "num_feat": 24}),
    Architecture("sam", "SamModel", (*image(64, 1), Input("input_points", (1, 1, 2, 2))),
        {"vision_config": {**_ENCODER, "image_size": 64, "patch_size": 16, "output_channels": 32, "window_size": 2,
            "global_attn_indexes": [1], "mlp_dim": 96, "num_pos_feats": 16},
         "prompt_encoder_config": {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 16},
         "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
            "iou_head_hidden_dim": 32}}, output="pred_masks"),
    Architecture("superpoint", "SuperPointForKeypointDetection", image(64, 1), {}),
    Architecture("vitpose", "VitPoseForPoseEstimation", image(64),
        {"backbone_config": {"model_type": "vitpose_backbone", "hidden_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "mlp_ratio": 2, "image_size": [64, 64], "patch_size": [16, 16]},
         "num_labels": 5}),
)
