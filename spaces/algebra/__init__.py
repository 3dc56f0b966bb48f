"""What kernel mappings are before any network is built: where they agree, what they can give.

The paper's mapping takes k = 2m + 1 while t = (log2 C + b) / gamma lies between two bounds that
depend on m and the rounding alone (ECA-Net, CVPR 2020, equation 12 and figure 3). For one channel
count that is a strip of the (gamma, b) plane between two straight lines, for the channel counts of
a network a convex polygon: all its points are the same network.
"""
