"""cmkd: the benchmark suite for cross-model knowledge distillation in audio classification.

Gong et al., "CMKD: CNN/Transformer-Based Cross-Model Knowledge Distillation for Audio
Classification", arXiv 2203.06760.
"""

__version__ = "0.1.0"
